// Plotly is put before this by the widget. Texts of the run only ever become text nodes, or go to
// plotly, which draws text.
const VIEWS = ["sweep", "pca", "cosines", "pair", "heads", "tokens"];

function make(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function render({ model, el }) {
  el.classList.add("workbench-explorer");
  const observers = [];
  const disposers = VIEWS.map((view) => {
    const box = make("section", `workbench-view workbench-${view}`);
    const title = make("h4", "workbench-title");
    const subtitle = make("p", "workbench-subtitle");
    const scroll = make("div", "workbench-scroll");
    const plot = make("div", "workbench-plot");
    scroll.tabIndex = 0;
    scroll.append(plot);
    box.append(title, subtitle, scroll);
    el.append(box);
    let drawn = false;

    const draw = async () => {
      const state = model.get(view);
      const shown = Boolean(state.spec);
      box.dataset.drawn = "";
      title.textContent = state.title ?? model.get("names")[view];
      subtitle.textContent = shown ? state.subtitle : state.message;
      plot.hidden = !shown;
      if (!shown) {
        if (drawn) Plotly.purge(plot);
        drawn = false;
        box.dataset.drawn = String(Number(box.dataset.count ?? 0) + 1);
        box.dataset.count = box.dataset.drawn;
        return;
      }
      plot.style.height = `${state.height}px`;
      plot.style.minWidth = `${state.narrowest}px`;
      plot.setAttribute("role", "img");
      plot.setAttribute("aria-label", state.alternative);
      await Plotly.react(plot, structuredClone(state.spec.data), structuredClone(state.spec.layout), {
        displaylogo: false, responsive: true, displayModeBar: false,
      });
      if (!drawn) {
        drawn = true;
        plot.on("plotly_click", ({ points }) => {
          const point = points[0];
          model.send({ view, x: point.x, y: point.y, group: point.data.legendgroup ?? null });
        });
      }
      box.dataset.count = String(Number(box.dataset.count ?? 0) + 1);
      box.dataset.drawn = box.dataset.count;
    };
    model.on(`change:${view}`, draw);
    // Jupyter may show the element only after it was drawn.
    const observer = new ResizeObserver(() => drawn && Plotly.Plots.resize(plot));
    observer.observe(scroll);
    observers.push(observer);
    draw();
    return () => {
      model.off(`change:${view}`, draw);
      if (drawn) Plotly.purge(plot);
    };
  });
  return () => {
    for (const dispose of disposers) dispose();
    for (const observer of observers) observer.disconnect();
  };
}

export default { render };
