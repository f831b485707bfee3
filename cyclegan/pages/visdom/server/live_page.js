// A page reconnects to its server by itself, unless its reader has put it offline.
let leftAlone = false;
document.addEventListener('click', event => {
  if (event.isTrusted && event.target.matches('.btn-success, .btn-danger'))
    leftAlone = event.target.textContent === 'online';
}, true);
setInterval(async () => {
  const isOffline = button => button.textContent === 'offline';
  const button = [...document.querySelectorAll('.navbar-form .btn-danger')].find(isOffline);
  if (!button || leftAlone || document.hidden) return;
  // Visdom 0.3 gives up after one attempt that fails.
  const answer = await fetch('/user/style.css', {cache: 'no-store'}).catch(() => ({ok: false}));
  if (answer.ok && isOffline(button)) button.click();
}, 2000);

// Plots are drawn one at a time, those in view first, and none while the page is hidden.
const waiting = new Map();
let next = null;
const inView = plot => {
  const box = plot.getBoundingClientRect();
  return box.bottom > 0 && box.top < window.innerHeight;
};
const plan = () => {
  if (next || document.hidden || !waiting.size) return;
  const plots = [...waiting.keys()];
  next = setTimeout(() => work(plots.find(inView) || plots[0]));
};
const work = plot => {
  const draw = waiting.get(plot);
  waiting.delete(plot);
  next = null;
  try {
    if (plot.isConnected) draw();
  } finally {
    plan();
  }
};
const later = draw => (id, data, layout, config) => {
  const plot = document.getElementById(id);
  // Visdom 0.3 listens to its plots at once: that waits until they are drawn.
  let early = [];
  if (!plot._fullLayout) {
    plot.on = (...listener) => early.push(listener);
    plot.removeListener = () => { early = []; };
  }
  waiting.set(plot, () => {
    // Plotly's "edit" link, which is never shown, would take as long to draw as everything else.
    draw(plot, data, layout, {...config, showLink: false});
    early.forEach(listener => plot.on(...listener));
  });
  plan();
  // Visdom 0.3 would then draw each plot a second time.
  return new Promise(() => {});
};
Plotly.newPlot = later(Plotly.newPlot);
Plotly.react = later(Plotly.react);
document.addEventListener('visibilitychange', plan);
