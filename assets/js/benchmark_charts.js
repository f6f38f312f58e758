/* Charts of the Benchmarks tab, drawn by plotly, which is fetched from our own server when the first one is shown.
   Each is drawn anew when the theme changes; the button in its corner saves it as SVG. */
(function () {
  "use strict";
  const d = window.diptych;
  const { el } = d;
  let library = null;
  const drawn = new Set();

  function plotly() {
    library = library || new Promise((resolve, reject) => {
      const script = el("script", { src: "plotly.js" });
      script.addEventListener("load", () => resolve(window.Plotly));
      script.addEventListener("error", () => { library = null; reject(new Error("no plotly")); });
      document.head.append(script);
    });
    return library;
  }

  /** All charts that have data, and what the others wait for. `open(task)` shows the items behind a bar. */
  d.benchmarkCharts = function (value, model, open) {
    const curves = model ? model.curves : {}, trade = value.trade_offs || {}, tokens = examplesOf(curves.kl_histogram);
    const known = [
      [recovery(value.recovery || [], open), "Recovery by task", "an accuracy suite"],
      [pareto(trade.cost || []), "Quality against cost", "an accuracy suite, and a throughput suite on hardware with a price"],
      [size(trade.size || []), "Size against quality", "a quality suite"],
      [staticKl(value.static_kl || []), "KL from the base", "a quality suite"],
      [histogram(curves.kl_histogram, tokens), "Tokens by KL", "a quality suite"], [position(curves.kl_by_position, tokens), "KL by position", "a quality suite"],
      [classes(curves.kl_by_class, tokens), "KL by kind of token", "a quality suite"], [steps(curves.kl_by_step), "KL while generating", "a quality suite with prompt lengths"],
      [survival(curves.survival), "Free answers that are still alike", "a quality suite with prompt lengths"], [load(model ? model.load : []), "Latency against throughput", "a throughput suite"],
      [rates(model ? model.rates : []), "Latency against request rate", "a throughput suite"],
      [history(value.history || []), "Mean KL over runs", "a second run of a quality suite"]];
    const charts = known.map(([chart]) => chart).filter(Boolean), waiting = known.filter(([chart]) => !chart);
    for (const chart of drawn) if (!chart.node.isConnected) drawn.delete(chart);
    return el("div", {}, section(charts), waiting.length && value.recovery && !d.recorded ? el("details", { class: "dt-more dt-waiting" }, el("summary", {}, waiting.length > 1 ? `${waiting.length} charts wait for figures` : "1 chart waits for figures"),
      el("ul", {}, waiting.map(([, title, needs]) => el("li", {}, el("b", {}, title), el("span", { class: "dt-soft" }, ` needs ${needs}.`))))) : null);
  };
  function section(charts) {
    return el("section", { class: "dt-charts" }, charts.map((chart) => {
      chart.node = el("div", { class: "dt-plot", role: "img", "aria-label": chart.title }, el("p", { class: "dt-soft" }, "Drawing…"));
      drawn.add(chart);
      new IntersectionObserver((seen, observer) => { if (seen.some((s) => s.isIntersecting)) { observer.disconnect(); show(chart); } }).observe(chart.node);
      return el("figure", { class: "dt-card dt-chart", "data-chart": chart.id }, el("figcaption", {}, el("b", {}, chart.title), chart.words ? el("span", { class: "dt-soft" }, chart.words) : null), chart.node);
    }));
  }

  /** task → tokens that were kept to be looked at. */
  function examplesOf(found) { return new Map((found || []).map((one) => [one.task, one.examples || []])); }
  function showTokens(task, title, found) {
    d.openSheet(`${title}, ${task}`, el("p", { class: "dt-soft" }, "The largest KL first; a few tokens of each bar are kept. The token stands after the text that was scored before it."),
      found.length ? el("table", { class: "dt-table dt-tokens" }, el("thead", {}, el("tr", {}, ["Text and token", "KL, nats", "Base", "Candidate", "Where"].map((h) => el("th", { scope: "col" }, h)))),
        el("tbody", {}, found.map((t) => el("tr", {}, el("td", {}, el("span", { class: "dt-soft" }, t.before), el("mark", {}, t.token)), el("td", {}, t.kl_nats.toPrecision(3)),
          el("td", {}, `${t.base_percent.toPrecision(3)} %`), el("td", {}, `${t.candidate_percent.toPrecision(3)} %`), el("td", { class: "dt-soft" }, `${t.group}, token ${t.position + 1}`)))))
        : el("p", { class: "dt-soft" }, "No token was kept for this bar; an earlier version measured it."));
  }

  async function show(chart) {
    try {
      const Plotly = await plotly(), ink = colours();
      if (!chart.node.isConnected) return;
      chart.node.querySelector("p")?.remove();
      const layout = { paper_bgcolor: "transparent", plot_bgcolor: "transparent", font: { color: ink.ink, size: 12, family: "Inter, Segoe UI, Roboto, Arial, sans-serif" },
        margin: { l: 56, r: 12, t: 8, b: 44 }, height: chart.height || 300, showlegend: chart.legend !== false, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { size: 11 } }, bargap: .25, hoverlabel: { namelength: -1 }, ...chart.layout };
      for (const axis of ["xaxis", "yaxis"]) layout[axis] = { gridcolor: ink.line, linecolor: ink.line, zerolinecolor: ink.line, automargin: true, ...layout[axis] };
      await Plotly.react(chart.node, chart.data(ink), layout, { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"], toImageButtonOptions: { format: "svg", filename: `diptych-${chart.id}` } });
      chart.shown = true;
      if (chart.click && !chart.heard) { chart.heard = true; chart.node.on("plotly_click", (event) => chart.click(event.points[0])); }
    } catch { chart.node.replaceChildren(el("p", { class: "dt-soft" }, "The chart could not be drawn; its figures stand in the tables.")); }
  }
  function colours() {
    const style = getComputedStyle(document.querySelector(".gradio-container") || document.body);
    const of = (name) => style.getPropertyValue(`--${name}`).trim();
    return { ink: of("ink"), soft: of("soft"), line: of("line"), base: of("base"), cand: of("cand"), ok: of("ok"), warn: of("warn"), row: [of("cand"), of("base"), of("ok"), of("warn"), of("soft"), of("bad")] };
  }
  new MutationObserver(() => { for (const chart of drawn) if (chart.shown && chart.node.isConnected) show(chart); }).observe(document.documentElement, { attributes: true, attributeFilter: ["class"], subtree: false });
  new MutationObserver(() => { for (const chart of drawn) if (chart.shown && chart.node.isConnected) show(chart); }).observe(document.body, { attributes: true, attributeFilter: ["class"] });

  const unique = (values) => [...new Set(values)];
  // In the middle: names that begin alike, such as two of one model, stay apart.
  const short = (text) => (text.length > 40 ? `${text.slice(0, 22)}…${text.slice(-17)}` : text);

  function recovery(rows, open) {
    if (!rows.length) return null;
    const groups = unique(rows.map((r) => `${r.model} (${r.source})`));
    return { id: "recovery", title: "Recovery by task, %", words: "Ours with 95 % intervals; published figures have none. Click a bar of ours for its items.", height: Math.max(280, 60 + 24 * rows.length),
      data: (ink) => groups.map((group, i) => {
        const own = rows.filter((r) => `${r.model} (${r.source})` === group);
        return { type: "bar", orientation: "h", name: short(group), y: own.map((r) => short(r.task)), x: own.map((r) => r.value), customdata: own.map((r) => r.task), marker: { color: own[0].source === "published" ? ink.soft : ink.row[i % ink.row.length] },
          error_x: { type: "data", symmetric: false, array: own.map((r) => (r.high ?? r.value) - r.value), arrayminus: own.map((r) => r.value - (r.low ?? r.value)), color: ink.ink, thickness: 1 } };
      }),
      layout: { xaxis: { ticksuffix: " %", rangemode: "tozero" }, yaxis: { autorange: "reversed" }, shapes: [{ type: "line", x0: 100, x1: 100, y0: 0, y1: 1, yref: "paper", line: { dash: "dot", width: 1, color: "#888" } }] }, click: (point) => open(point.customdata) };
  }
  /* Up and to the right is better. The line joins what no other point of its use case and source beats in both. */
  function pareto(points) {
    if (!points.length) return null;
    const groups = unique(points.map((p) => `${p.task} (${p.source})`));
    // "use case (…), 4 at a time": a colour for each use case, a symbol for each level.
    const parts = (task) => task.split(/, (?=\d+ at a time$)/), measured = points.filter((p) => p.source !== "published").map((p) => parts(p.task));
    const cases = unique(measured.map(([useCase]) => useCase)), levels = unique(measured.map(([, level]) => level)), symbols = ["circle", "square", "diamond", "triangle-up"];
    const best = (own) => own.filter((p) => !own.some((o) => o !== p && o.queries_per_usd >= p.queries_per_usd && o.recovery_percent >= p.recovery_percent && (o.queries_per_usd > p.queries_per_usd || o.recovery_percent > p.recovery_percent)))
      .sort((a, b) => a.queries_per_usd - b.queries_per_usd);
    return { id: "pareto", title: "Quality against cost", words: "Mean recovery of a model's tasks against queries per dollar; lines join what nothing beats in both.", height: 360,
      data: (ink) => groups.flatMap((group, i) => {
        const own = points.filter((p) => `${p.task} (${p.source})` === group), [useCase, level] = parts(own[0].task);
        const published = own[0].source === "published", colour = published ? ink.soft : ink.row[cases.indexOf(useCase) % ink.row.length], front = best(own);
        const first = groups.findIndex((g) => g.endsWith("(published)")) === i;
        return [{ type: "scatter", mode: "markers", name: published ? "published cards" : short(own[0].task.replace(/ \([^)]*\)/, "")), legendgroup: published ? "published" : group, showlegend: !published || first, x: own.map((p) => p.queries_per_usd), y: own.map((p) => p.recovery_percent), text: own.map((p) => `${p.model}<br>${p.task}<br>${p.tasks} task${p.tasks > 1 ? "s" : ""}, ${p.source}`.replace(/<(?!br>)/g, "‹")), hovertemplate: "%{text}<br>%{y:.2f} %, %{x:.0f} per dollar<extra></extra>", marker: { color: colour, size: 9, symbol: published ? "circle-open" : symbols[levels.indexOf(level) % symbols.length] },
          error_y: { type: "data", visible: own.some((p) => p.high !== null), symmetric: false, array: own.map((p) => (p.high ?? p.recovery_percent) - p.recovery_percent), arrayminus: own.map((p) => p.recovery_percent - (p.low ?? p.recovery_percent)), thickness: 1 } },
          ...(front.length > 1 ? [{ type: "scatter", mode: "lines", x: front.map((p) => p.queries_per_usd), y: front.map((p) => p.recovery_percent), line: { color: colour, width: 1, dash: "dot" }, hoverinfo: "skip", showlegend: false }] : [])];
      }), layout: { xaxis: { type: "log", title: { text: "queries per dollar" } }, yaxis: { ticksuffix: " %" } } };
  }
  function size(points) {
    if (!points.length) return null;
    return { id: "size", title: "Size against quality", words: "Weights as served against mean KL; the dotted line is the base's size.", height: 340,
      data: (ink) => unique(points.map((p) => p.task)).map((task, i) => {
        const own = points.filter((p) => p.task === task);
        return { type: "scatter", mode: "markers", name: short(task), x: own.map((p) => p.gb), y: own.map((p) => p.mean_kl_nats), text: own.map((p) => p.model.replace(/</g, "‹")), hovertemplate: "%{text}<br>%{x:.4g} GB, %{y:.3g} nats<extra></extra>", marker: { color: ink.row[i % ink.row.length], size: 9 },
          error_y: { type: "data", symmetric: false, array: own.map((p) => (p.high ?? p.mean_kl_nats) - p.mean_kl_nats), arrayminus: own.map((p) => p.mean_kl_nats - (p.low ?? p.mean_kl_nats)), thickness: 1 } };
      }),
      layout: { xaxis: { title: { text: "GB" }, rangemode: "tozero" }, yaxis: { type: "log", title: { text: "nats" }, exponentformat: "power" },
        shapes: unique(points.map((p) => p.base_gb).filter(Boolean)).map((gb) => ({ type: "line", x0: gb, x1: gb, y0: 0, y1: 1, yref: "paper", line: { dash: "dot", width: 1, color: "#888" } })) } };
  }
  function staticKl(rows) {
    if (!rows.length) return null;
    const names = [["median", "median"], ["mean", "mean"], ["p95", "95 %"], ["p99", "99 %"]];
    const one = unique(rows.filter((r) => r.source !== "published").map((r) => r.model)).length === 1;
    const name = (row) => (row.source === "published" ? `${row.model.split("/").pop()} (card)` : one ? row.task : `${row.model}, ${row.task}`);
    return { id: "static-kl", title: "KL from the base, nats", words: "Published figures rest on 20 tokens of the vocabulary and on another text: read the order of size, not the difference.", height: 360,
      data: (ink) => rows.map((row, i) => ({ type: "bar", name: short(name(row)), x: names.map((n) => n[1]), y: names.map((n) => row[n[0]] ?? null), marker: { color: row.source === "published" ? ink.soft : ink.row[i % ink.row.length], opacity: row.source === "published" ? .5 + .2 * (i % 2) : 1 } })),
      layout: { xaxis: { type: "category" }, yaxis: { type: "log", exponentformat: "power", title: { text: "nats" } } } };
  }
  function histogram(found, tokens) {
    if (!found) return null;
    return { id: "kl-histogram", title: "Tokens by KL", words: "From this many nats to the next step; the first bar holds all that is smaller too. Click a bar for some of its tokens.",
      click: (point) => showTokens(found[point.curveNumber].task, `Tokens from ${point.x} nats`, (tokens.get(found[point.curveNumber].task) || []).filter((t) => t.bin === point.pointNumber)),
      data: (ink) => found.map((one, i) => ({ type: "bar", name: short(one.task), x: one.curve.edges_nats.slice(0, -1).map((e) => (e >= 0.01 ? e.toPrecision(1) : e.toExponential(0))), y: one.curve.tokens, marker: { color: ink.row[i % ink.row.length] } })),
      layout: { xaxis: { type: "category", title: { text: "nats" } }, yaxis: { title: { text: "tokens" } } } };
  }
  function position(found, tokens) {
    if (!found) return null;
    return { id: "kl-position", title: "KL by position", words: "Scored tokens from the first of each chunk or answer. Click a point for some of its tokens.",
      click: (point) => showTokens(found[point.curveNumber].task, `Tokens around place ${point.x}`, (tokens.get(found[point.curveNumber].task) || []).filter((t) => t.stretch === point.pointNumber)),
      data: (ink) => found.map((one, i) => ({ type: "scatter", mode: "lines+markers", name: short(one.task), x: one.curve.map((p) => (p.from + p.to) / 2), y: one.curve.map((p) => p.mean_kl_nats), line: { color: ink.row[i % ink.row.length] } })),
      layout: { xaxis: { title: { text: "token" } }, yaxis: { title: { text: "nats" }, rangemode: "tozero" } } };
  }
  function classes(found, tokens) {
    if (!found) return null;
    return { id: "kl-class", title: "KL by kind of token", words: "Click a bar for some of its tokens.",
      click: (point) => showTokens(found[point.curveNumber].task, `Tokens of the kind “${point.x}”`, (tokens.get(found[point.curveNumber].task) || []).filter((t) => t.class === point.x)),
      data: (ink) => found.map((one, i) => ({ type: "bar", name: short(one.task), x: one.curve.map((p) => p.class), y: one.curve.map((p) => p.mean_kl_nats), text: one.curve.map((p) => `${p.tokens} tokens`), textposition: "none", marker: { color: ink.row[i % ink.row.length] } })),
      layout: { yaxis: { title: { text: "nats" } } } };
  }
  function steps(found) {
    if (!found) return null;
    return { id: "kl-step", title: "KL while generating, on the base's path", words: "Mean over prompts with a 95 % band.",
      data: (ink) => found.flatMap((one, i) => {
        const colour = ink.row[i % ink.row.length], x = one.curve.map((p) => p.step), known = one.curve.filter((p) => p.low !== null);
        return [{ type: "scatter", mode: "lines", x: [...known.map((p) => p.step), ...known.map((p) => p.step).reverse()], y: [...known.map((p) => p.high), ...known.map((p) => p.low).reverse()], fill: "toself", fillcolor: colour, opacity: .15, line: { width: 0 }, hoverinfo: "skip", showlegend: false },
          { type: "scatter", mode: "lines", name: short(one.task.replace("generation, ", "")), x, y: one.curve.map((p) => p.mean_kl_nats), line: { color: colour, width: 1.5 } }];
      }), layout: { xaxis: { title: { text: "step" } }, yaxis: { title: { text: "nats" }, rangemode: "tozero" } } };
  }
  function survival(found) {
    if (!found) return null;
    return { id: "survival", title: "Free answers that are still alike", words: "Each model on its own path: greedy, and drawn at temperature 1 with the same seed (dotted).",
      data: (ink) => found.map((one) => ({ one, i: unique(found.map((f) => f.task)).indexOf(one.task) })).map(({ one, i }) => ({ type: "scatter", mode: "lines", name: `${short(one.task.replace("generation, ", ""))}, ${one.way}`, x: one.curve.map((_, k) => k + 1), y: one.curve.map((v) => 100 * v), line: { shape: "hv", dash: one.way === "greedy" ? "solid" : "dot", color: ink.row[i % ink.row.length] } })),
      layout: { xaxis: { title: { text: "step" } }, yaxis: { ticksuffix: " %", range: [0, 103] } } };
  }
  function load(points) {
    const whole = points.filter((p) => p.requests_per_s && p.median_e2el_ms);
    if (!whole.length) return null;
    const caseOf = (p) => p.task.split(" ")[0], lineOf = (p) => `${caseOf(p)} · ${p.model}`, cases = unique(whole.map(caseOf)), dashes = ["solid", "dash", "dot", "dashdot"];
    return { id: "load", title: "Latency against throughput", words: "Each line is a use case on one model; its points are the levels of concurrency.", height: 360,
      data: (ink) => unique(whole.map(lineOf)).map((name) => {
        const own = whole.filter((p) => lineOf(p) === name).sort((a, b) => a.requests_per_s - b.requests_per_s);
        return { type: "scatter", mode: "lines+markers", name: short(name), x: own.map((p) => p.requests_per_s), y: own.map((p) => p.median_e2el_ms), text: own.map((p) => p.task), line: { color: own[0].side === "base" ? ink.base : ink.cand, dash: dashes[cases.indexOf(caseOf(own[0])) % dashes.length] } };
      }), layout: { xaxis: { title: { text: "requests/s" } }, yaxis: { title: { text: "median E2EL, ms" }, rangemode: "tozero" } } };
  }
  /* Beyond a model's highest rate its queue only grows, so the line that marks it stands beside the points. */
  function rates(points) {
    if (!points || !points.length) return null;
    const names = unique(points.map((p) => `${p.case} · ${p.model}`)), of = (name) => points.filter((p) => `${p.case} · ${p.model}` === name).sort((a, b) => a.requests_per_s - b.requests_per_s);
    const colour = (own, ink) => (own[0].side === "base" ? ink.base : ink.cand), dash = (own) => ["solid", "dash", "longdash", "dashdot"][unique(points.map((p) => p.case)).indexOf(own[0].case) % 4];
    return { id: "rates", title: "Latency against request rate", words: "How long a whole answer takes (E2EL) when requests come at random times, the same times for both: median with its interval, above it the 95th percentile, dotted. The upright line is the most that the model answers when all requests come at once.", height: 360,
      data: (ink) => names.flatMap((name) => {
        const own = of(name), x = own.map((p) => p.requests_per_s);
        return [{ type: "scatter", mode: "lines+markers", name: short(name), legendgroup: name, x, y: own.map((p) => p.median_ms), line: { color: colour(own, ink), dash: dash(own) }, hovertemplate: "%{x:.3g} requests/s: median %{y:.4g} ms",
          error_y: { type: "data", symmetric: false, array: own.map((p) => (p.high ?? p.median_ms) - p.median_ms), arrayminus: own.map((p) => p.median_ms - (p.low ?? p.median_ms)), thickness: 1 } },
          { type: "scatter", mode: "lines", name: `${short(name)}, 95th percentile`, legendgroup: name, showlegend: false, x, y: own.map((p) => p.p95_ms), line: { color: colour(own, ink), width: 1, dash: "dot" }, hovertemplate: "95th percentile %{y:.4g} ms" },
          ...(own[0].highest_per_s ? [{ type: "scatter", mode: "lines", name: `${short(name)}, highest rate`, legendgroup: name, showlegend: false, x: [own[0].highest_per_s, own[0].highest_per_s], y: [0, Math.max(...points.map((p) => p.p95_ms))], line: { color: colour(own, ink), width: 1, dash: dash(own) }, hovertemplate: "at most %{x:.3g} requests/s" }] : [])];
      }), layout: { xaxis: { title: { text: "requests/s" }, range: [0, 1.05 * Math.max(...points.map((p) => Math.max(p.requests_per_s, p.highest_per_s || 0)))] }, yaxis: { title: { text: "E2EL, ms" }, rangemode: "tozero" } } };
  }
  function history(all) {
    const runs = (row) => new Set(all.filter((r) => r.model === row.model && r.task === row.task).map((r) => r.job)).size;
    const rows = all.filter((row) => runs(row) > 1);
    if (!rows.length) return null;
    return { id: "history", title: "Mean KL over runs", words: "One point for each run.",
      data: (ink) => unique(rows.map((r) => `${r.model}, ${r.task}`)).map((name, i) => {
        const own = rows.filter((r) => `${r.model}, ${r.task}` === name);
        return { type: "scatter", mode: "lines+markers", name: short(name), x: own.map((r) => r.at), y: own.map((r) => r.value), line: { color: ink.row[i % ink.row.length] },
          error_y: { type: "data", symmetric: false, array: own.map((r) => (r.high ?? r.value) - r.value), arrayminus: own.map((r) => r.value - (r.low ?? r.value)), thickness: 1 } };
      }), layout: { yaxis: { type: "log", title: { text: "nats" }, exponentformat: "power" } } };
  }
})();
