"use strict";
// Draws the figures and fills the tables. Texts of the run only ever become text nodes.
(() => {
  const PAGE_ROWS = 20;
  const PAPER_ROWS = 60; // rows of a table that are printed
  const PAPER_WIDTH = 690; // pixels between the margins of a page
  const PAPER_HEIGHT = 820; // pixels that leave room for heading and caption on a page
  const LONG = 600; // characters of a text that are shown at first
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  // Figures -------------------------------------------------------------------------------------
  const plots = [...document.querySelectorAll(".plot")];
  const nameOf = (plot) => plot.id.slice("plot-".length);

  // A legend takes more rows where the figure is narrow; the figure grows by what it needs.
  const fitLegend = async (plot) => {
    const legend = plot.querySelector(".legend");
    const layout = plot._fullLayout;
    if (!legend || !layout || layout.legend.orientation !== "h") return;
    const needed = Math.ceil(legend.getBBox().height) + plot.own.axis;
    const grown = Math.max(0, needed - plot.own.bottom);
    if (layout.margin.b !== plot.own.bottom + grown) {
      plot.own.grown = grown;
      await Plotly.relayout(plot, {
        "margin.b": plot.own.bottom + grown,
        height: plot.own.height + grown,
        autosize: true, // or plotly stops following the width of the window
      });
      plot.style.setProperty("--height", `${plot.own.height + grown}px`);
    }
  };

  // Titles of panels that are wider than a narrow figure go on below.
  const specOf = (plot) => {
    const spec = read(`spec-${nameOf(plot)}`);
    for (const title of spec.layout.annotations ?? []) {
      const wide = 7 * (title.text ?? "").replace(/<[^>]*>/g, "").length > plot.clientWidth - 70;
      if (wide && title.xanchor === "left" && !title.text.includes("<br>"))
        title.text = title.text.replace(/ \((?=[^(]*$)/, "<br>(");
    }
    // So do names of axes, broken at the space that is nearest to their middle.
    const across = Object.keys(spec.layout).filter((key) => /^xaxis\d*$/.test(key));
    for (const key of across) {
      const title = spec.layout[key].title;
      const [from, to] = spec.layout[key].domain ?? [0, 1];
      if (!title?.text || title.text.includes("<")) continue;
      if (6.5 * title.text.length < (plot.clientWidth - 90) * (to - from)) continue;
      const spaces = [...title.text.matchAll(/ /g)].map((match) => match.index);
      const middle = title.text.length / 2;
      const at = spaces.sort((a, b) => Math.abs(a - middle) - Math.abs(b - middle))[0];
      if (at) title.text = `${title.text.slice(0, at)}<br>${title.text.slice(at + 1)}`;
    }
    return spec;
  };

  const draw = async (plot) => {
    const spec = specOf(plot);
    const bottom = spec.layout.margin.b ?? 80;
    plot.own = { height: spec.layout.height, grown: 0, bottom, axis: Math.min(bottom, 62) };
    if (still) spec.layout.transition = { duration: 0 };
    await Plotly.newPlot(plot, spec.data, spec.layout, {
      responsive: true, displaylogo: false, displayModeBar: false, scrollZoom: false,
    });
    await fitLegend(plot);
  };

  const buttons = (plot) => {
    const name = nameOf(plot);
    const reset = document.querySelector(`[data-reset="${name}"]`);
    reset.addEventListener("click", async () => {
      const spec = specOf(plot);
      await Plotly.react(plot, spec.data, spec.layout);
      await fitLegend(plot);
    });
    document.querySelector(`[data-save="${name}"]`).addEventListener("click", () =>
      Plotly.downloadImage(plot, {
        format: "png", scale: 2, filename: name,
        width: plot.clientWidth, height: plot._fullLayout.height,
      }));
    reset.parentElement.hidden = false;
  };

  // Tables --------------------------------------------------------------------------------------
  const words = (text) => {
    const bdi = make("bdi", { dir: "auto" });
    if (text.length <= LONG) {
      bdi.textContent = text;
      return [bdi];
    }
    // Not between the halves of a character outside the first plane.
    const end = /[\uD800-\uDBFF]/.test(text[LONG - 1]) ? LONG - 1 : LONG;
    bdi.textContent = `${text.slice(0, end)} …`;
    const more = make("button", { type: "button", class: "more", "aria-expanded": "false" });
    const label = `Show all ${text.length.toLocaleString("en")} characters`;
    more.textContent = label;
    more.addEventListener("click", () => {
      const open = more.getAttribute("aria-expanded") === "true";
      bdi.textContent = open ? `${text.slice(0, end)} …` : text;
      more.setAttribute("aria-expanded", String(!open));
      more.textContent = open ? label : "Show less";
    });
    return [bdi, more];
  };

  const cell = (kind, value) => {
    if (kind === "reply") {
      const [verdict, text] = value;
      const mark = make("span", { class: "verdict" }, verdict || "not measured");
      if (["refused", "complied", "partial", "other"].includes(verdict)) mark.classList.add(verdict);
      return make("td", { class: kind }, mark, ...words(text));
    }
    if (kind === "text") return make("td", { class: kind }, ...words(value));
    const own = value.length > 28 ? `${kind} long` : kind;
    return make("td", { class: own }, make("bdi", {}, value));
  };

  const sortKey = (kind, value) => (kind === "reply" ? value[0] : value);

  const table = (element) => {
    const name = element.dataset.table;
    const { kinds, filters, rows } = read(`data-${name}`);
    const headings = [...element.querySelectorAll("thead th")].map((th) => th.textContent);
    const status = document.querySelector(`[data-status="${name}"]`);
    const controls = document.querySelector(`[data-controls="${name}"]`);
    const body = element.tBodies[0];
    const haystacks = rows.map((row) =>
      row.map((value) => (Array.isArray(value) ? value.join(" ") : value)).join("\n").toLowerCase());
    let page = 0;
    let found = rows.map((_, index) => index);

    const search = make("input", { type: "search", autocomplete: "off", spellcheck: "false" });
    controls.append(make("label", {}, "search", search));
    const selects = filters.flatMap((column) => {
      const values = [...new Set(rows.map((row) => sortKey(kinds[column], row[column])))];
      if (values.length < 2 || values.length > 200) return [];
      const select = make("select", {}, make("option", { value: "" }, "all"));
      const numbers = values.every((value) => value !== "" && !Number.isNaN(Number(value.replace("−", "-"))));
      if (!numbers) values.sort();
      values.forEach((value, index) =>
        select.append(make("option", { value: String(index + 1) }, value || "none")));
      controls.append(make("label", {}, kinds[column] === "reply" ? `verdict, ${headings[column]}` : headings[column], select));
      return [{ column, select, values }];
    });
    const previous = make("button", { type: "button" }, "Previous");
    const next = make("button", { type: "button" }, "Next");
    const where = make("span", { class: "hidden" }, `page of ${name}`);
    controls.append(make("span", {}, previous, " ", next, where));

    const show = (from, count) => {
      body.replaceChildren(...found.slice(from, from + count).map((index) =>
        make("tr", {}, ...rows[index].map((value, column) => cell(kinds[column], value)))));
      const until = Math.min(found.length, from + count);
      const of = found.length === rows.length ? "" : ` found, out of ${rows.length}`;
      status.textContent = found.length
        ? `Rows ${from + 1} to ${until} of ${found.length}${of}.`
        : `No row of ${rows.length} matches.`;
    };
    const update = () => {
      const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      found = rows.flatMap((row, index) => {
        const matches = wanted.every((word) => haystacks[index].includes(word)) &&
          selects.every(({ column, select, values }) => select.value === "" ||
            sortKey(kinds[column], row[column]) === values[Number(select.value) - 1]);
        return matches ? [index] : [];
      });
      page = 0;
      turn(0);
    };
    const turn = (by) => {
      const last = Math.max(0, Math.ceil(found.length / PAGE_ROWS) - 1);
      page = Math.min(last, Math.max(0, page + by));
      show(page * PAGE_ROWS, PAGE_ROWS);
      previous.disabled = page === 0;
      next.disabled = page === last;
    };
    search.addEventListener("input", update);
    for (const { select } of selects) select.addEventListener("change", update);
    previous.addEventListener("click", () => turn(-1));
    next.addEventListener("click", () => turn(1));
    controls.hidden = false;
    turn(0);
    return {
      print: () => {
        show(0, PAPER_ROWS);
        if (found.length > PAPER_ROWS) status.textContent += " The others are in the page itself.";
      },
      restore: () => turn(0),
    };
  };

  // Paper ---------------------------------------------------------------------------------------
  const tables = [...document.querySelectorAll("[data-table]")].map(table);
  const resized = (onPaper) => plots.filter((plot) => plot.own).forEach((plot) => {
    const height = plot.own.height + plot.own.grown;
    const shown = onPaper ? Math.min(height, PAPER_HEIGHT) : height;
    plot.style.setProperty("--height", `${shown}px`);
    Plotly.relayout(plot, onPaper
      ? { width: PAPER_WIDTH, height: shown, autosize: false }
      : { width: null, height: shown, autosize: true });
  });
  addEventListener("beforeprint", () => {
    for (const each of tables) each.print();
    resized(true);
  });
  addEventListener("afterprint", () => {
    for (const each of tables) each.restore();
    resized(false);
  });

  let waiting;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => plots.forEach((plot) => plot.own && fitLegend(plot)), 300);
  });

  (async () => {
    for (const plot of plots) {
      await draw(plot);
      buttons(plot);
      // The page answers between two figures.
      await new Promise((done) => setTimeout(done, 0));
    }
    document.documentElement.dataset.ready = "true";
  })();
})();
