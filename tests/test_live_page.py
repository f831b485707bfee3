"""A real training, watched in a real browser."""

import json
import shutil
import signal
import socket
import urllib.error
import urllib.request

import pytest
from running import TINY, train, wait_for

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-quic"),
]
CURVES = "[...document.querySelectorAll('.js-plotly-plot')].flatMap(p => p.data.map(t => t.name))"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: chromium)")
def test_a_real_training_shows_its_curves_and_previews_in_a_browser(dataroot, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api")
    options = [option for option in TINY if not option.startswith(("--monitor", "--preview"))]
    process = train(
        tmp_path,
        *(f"--dataroot={dataroot}", "--name=seen", "--steps=1000000", "--preview_every=50"),
        *(*options, f"--display_port={free_port()}"),
        popen=True,
    )
    hosts = set()
    try:
        wait_for(tmp_path / "runs" / "seen" / "metrics.jsonl", process)
        said = next(line for line in process.stdout if "Visdom shows the run" in line)
        address = said.split()[-1]
        with sync_api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            page = browser.new_page(viewport={"width": 1300, "height": 1600})
            page.on("request", lambda request: hosts.add(request.url.split("/")[2].split(":")[0]))
            page.goto(address)
            page.wait_for_selector(".js-plotly-plot", timeout=90_000)
            page.wait_for_selector("img[src^='data:image/jpeg']", timeout=90_000)
            page.wait_for_function(f"{CURVES}.includes('lr')", timeout=90_000)
            names = set(page.evaluate(CURVES))
            page.screenshot(path=tmp_path / "page.png")
            browser.close()
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    values = json.loads((tmp_path / "runs/seen/metrics.jsonl").read_text().splitlines()[0])
    assert values.keys() - {"step"} <= names
    assert {host for host in hosts if not host.startswith("image")} == {"127.0.0.1"}
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        urllib.request.urlopen(address, timeout=5)
