"use strict";
const stack = document.querySelector(".stack");
const when = document.getElementById("when");
const pictures = [...stack.querySelectorAll("img")];

function show(index) {
  pictures.forEach((picture, i) => picture.classList.toggle("shown", i === index));
  document.getElementById("step").textContent = `step ${pictures[index].dataset.step}`;
}
if (when) {
  stack.classList.add("live");
  when.oninput = () => show(Number(when.value));
  // A browser that returns to the page may have kept the position of the slider.
  show(Number(when.value));
}

const threeDigits = (value) => {
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en");
  const three = Number(value.toPrecision(3));
  return three && Math.abs(three) < 1e-3 ? three.toExponential() : String(three);
};

// The legend of a chart shows the values under the pointer, or the newest ones.
for (const chart of document.querySelectorAll(".chart")) {
  const plot = chart.querySelector(".plot");
  const shown = [...chart.querySelectorAll(".legend b")];
  const newest = shown.map((value) => value.textContent);
  const [left, right] = chart.dataset.x.split(" ").map(Number);
  const [low, high] = chart.dataset.y.split(" ").map(Number);
  const units = plot.querySelector("svg").viewBox.baseVal.width;
  const mark = document.createElement("span");
  mark.className = "at";
  let curves;

  plot.addEventListener("pointermove", (event) => {
    curves ??= [...chart.querySelectorAll("g")].map((curve) => [...curve.lastChild.points]);
    const box = plot.getBoundingClientRect();
    const x = (units * (event.clientX - box.left)) / box.width;
    if (x < 0 || x > units) return;
    const near = (points) =>
      points.reduce((best, point) => (Math.abs(point.x - x) < Math.abs(best.x - x) ? point : best));
    curves.forEach((points, i) => {
      shown[i].textContent = threeDigits(high - (near(points).y / units) * (high - low));
    });
    mark.style.left = `${(100 * x) / units}%`;
    mark.dataset.step = threeDigits(Math.round(left + (x / units) * (right - left)));
    plot.append(mark);
  });
  plot.addEventListener("pointerleave", () => {
    mark.remove();
    shown.forEach((value, i) => (value.textContent = newest[i]));
  });
}
