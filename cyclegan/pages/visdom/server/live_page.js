// A page reconnects to its server by itself, unless its reader has put it offline.
// Plots are drawn one at a time, those in view first, and none while the page is hidden. Plotly's
// "edit" link, which is never shown, would take as long to draw as everything else.
let leftAlone = false;
document.addEventListener('click', event => {
  if (event.isTrusted && event.target.matches('.btn-success, .btn-danger'))
    leftAlone = event.target.textContent === 'online';
}, true);
setInterval(() => {
  const buttons = [...document.querySelectorAll('.navbar-form .btn-danger')];
  const offline = buttons.find(button => button.textContent === 'offline');
  if (offline && !leftAlone && !document.hidden) offline.click();
}, 2000);

const draw = Plotly.newPlot, waiting = new Map();
let next = null;
const inSight = plot => {
  const place = plot.getBoundingClientRect();
  return place.bottom > 0 && place.top < window.innerHeight;
};
const plan = () => {
  if (next || document.hidden || !waiting.size) return;
  const plots = [...waiting.keys()];
  next = setTimeout(() => work(plots.find(inSight) || plots[0]));
};
const work = plot => {
  const [data, layout, config] = waiting.get(plot);
  waiting.delete(plot);
  next = null;
  try {
    if (plot.isConnected) draw(plot, data, layout, {...config, showLink: false});
  } finally {
    plan();
  }
};
Plotly.newPlot = (id, ...all) => {
  waiting.set(document.getElementById(id), all);
  plan();
};
document.addEventListener('visibilitychange', plan);
