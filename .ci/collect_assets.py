"""Makes the js/, css/ and fonts/ of our Visdom pages anew; needs npm and a network."""

import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

ASSETS = Path(__file__).resolve().parents[1] / "cyclegan/pages/visdom/server/assets"
FONT = "fonts/glyphicons-halflings-regular.woff2"

# The names on the right are those that Visdom's index.html and login.html ask for.
PACKAGES: dict[str, dict[str, str]] = {
    "jquery@3.1.1": {"dist/jquery.min.js": "js/jquery.min.js"},
    "bootstrap@3.3.7": {
        "dist/js/bootstrap.min.js": "js/bootstrap.min.js",
        "dist/css/bootstrap.min.css": "css/bootstrap.min.css",
        f"dist/{FONT}": FONT,
    },
    "react-resizable@3.1.3": {"css/styles.css": "css/react-resizable-styles.css"},
    "react-grid-layout@2.2.3": {"css/styles.css": "css/react-grid-layout-styles.css"},
    "layout-bin-packer@1.4.0": {"dist/layout-bin-packer.js": "js/layout_bin_packer.js"},
    # Plotly without its maps and its three dimensions, which are two thirds of its bytes.
    "plotly.js-cartesian-dist-min@2.11.1": {
        "plotly-cartesian.min.js": "js/plotly-plotly.min.js",
    },
    "d3@3.5.17": {"d3.min.js": "js/d3.v3.min.js"},
    "d3-selection-multi@1.0.1": {
        "build/d3-selection-multi.min.js": "js/d3-selection-multi.v1.js",
    },
    "save-svg-as-png@1.4.17": {"lib/saveSvgAsPng.js": "js/saveSvgAsPng.js"},
    "sjcl@1.0.7": {"sjcl.js": "js/sjcl.js"},
}


def main() -> None:
    for folder in ("js", "css", "fonts"):
        shutil.rmtree(ASSETS / folder, ignore_errors=True)
    for package, files in PACKAGES.items():
        with tempfile.TemporaryDirectory() as scratch:
            collect(package, files, scratch=Path(scratch))


def collect(package: str, files: dict[str, str], *, scratch: Path) -> None:
    subprocess.run(["npm", "pack", "--silent", package], cwd=scratch, check=True)
    with tarfile.open(next(scratch.glob("*.tgz"))) as archive:
        for source, target in files.items():
            member = archive.extractfile(f"package/{source}")
            if member is None:
                raise FileNotFoundError(f"{package} holds no {source}")
            path = ASSETS / target
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(without_source_map(member.read()))


def without_source_map(text: bytes) -> bytes:
    """Drop the pointer to a map we do not ship, which developer tools would ask for in vain."""
    return re.sub(rb"\s*(//|/\*)# sourceMappingURL=[\w.-]+( \*/)?\s*\Z", b"\n", text)


if __name__ == "__main__":
    main()
