/* The divergence card: one answer's tokens under base and candidate. Value from Python (compare/score_view.py page_view).
   Every text comes from a model and only ever becomes DOM through textContent. */
(function () {
  "use strict";
  const d = window.diptych;
  const { el, fill, steps } = d;
  const LEVELS = [0.01, 0.05, 0.2, 1]; // nats; the colour's steps
  const MODES = {
    kl: { name: "KL", level: (t, floor) => (t.kl === null ? null : t.kl <= floor ? 0 : steps(t.kl, LEVELS)), value: (t) => t.kl },
    dp: { name: "Δp", level: (t) => (t.dp === null ? null : steps(Math.abs(t.dp), [0.005, 0.05, 0.2, 0.5])), value: (t) => t.dp === null ? null : Math.abs(t.dp) },
    rank: { name: "Rank", level: (t) => (t.rc === null ? null : t.rc === 1 ? 0 : steps(t.rc, [2, 3, 6, 20])), value: (t) => t.rc === null ? null : Math.log(t.rc) },
    entropy: { name: "Entropy", level: (t) => (t.hc === null ? null : steps(Math.abs(t.hc - t.hb), [0.02, 0.1, 0.4, 1])), value: (t) => t.hc === null ? null : Math.abs(t.hc - t.hb) },
    agree: { name: "Agreement", level: (t) => (t.f === null ? null : t.f ? 4 : 0), value: (t) => t.f === null ? null : t.f ? 1 : 0 },
    ...d.eyesModes,
  };

  function shown(token) {
    return token.b ? [el("span", { class: "dt-bytes", title: "Bytes of a part of a character" }, `⟨${token.b}⟩`)] : d.visible(token.t);
  }
  function inLine(text) { return d.visible(text).map((p) => (p === "\n" ? "" : p)); }
  d.inLine = inLine;
  function percent(p) { return p === null ? "not listed" : p < 0.0005 && p > 0 ? "<0.1 %" : `${(p * 100).toFixed(1)} %`; }
  function number(v, digits) { return v === null || v === undefined ? "not known" : v !== 0 && Math.abs(v) < 0.0005 ? v.toExponential(1) : v.toFixed(digits); }

  window.diptych.divergence = function (element, props, trigger, watch) {
    const me = { value: {}, mode: "kl", at: -1, chosen: 0, spans: [], asked: "", wanted: null, candidate: null, unit: "nats" };
    const heat = el("div", { class: "dt-heat", tabindex: "0", role: "group", "aria-label": "Tokens of the answer" });
    const map = el("canvas", { class: "dt-minimap", height: "34", title: "The whole answer; click to go there", role: "img", "aria-label": "Divergence over the answer's positions" });
    const said = el("div", { "aria-live": "polite" }), more = el("div"), side = el("div", { class: "dt-inspect" }, said, more);
    const forkNote = el("p", { class: "dt-forks" });
    const eyes = d.eyes({
      measure: (picture, again) => { setMode("picture"); trigger("eyes", { turn: me.value.turn, of: me.value.path_of, candidate: me.value.candidate, picture, again }); },
      jump: (index) => select(index, true),
      repaint: () => { if (!d.eyesModes[me.mode]) setMode("picture"); paint(); inspect(me.at); },
      inLine,
    });

    function setMode(mode) { me.mode = mode; const modes = element.querySelector(".dt-mode"); if (modes) modes.value = mode; }
    function ask(path, again) {
      const turn = latest();
      const candidate = me.candidate && columnOf(me.candidate, turn) ? me.candidate : null;
      if (!turn) return;
      me.wanted = { turn: turn.id, of: path, candidate };
      trigger("score", { ...me.wanted, again }); // not "path": Gradio takes that for a file
    }
    /** The column in which an engine answered a turn. */
    function columnOf(engine, turn) {
      return d.visibleColumns().find((c) => turn && c.value.turns.some((t) => t.id === turn.id && t.answers.some((a) => a.engine === engine)));
    }
    /** The newest turn, once base and candidate have both ended. */
    function latest() {
      if (d.isStreaming()) return null;
      const columns = d.visibleColumns().filter((c) => c.value.turns.length);
      if (!columns.length) return null;
      const turn = columns[0].value.turns.at(-1);
      const whole = columns.every((c) => c.value.turns.at(-1).id === turn.id);
      return whole ? turn : null;
    }
    /** What is shown belongs to an earlier turn while a newer one is written or scored. */
    function markStale() {
      const turns = d.turnsOfPage();
      element.classList.toggle("dt-stale", !!me.value.turn && !!turns.length && turns[turns.length - 1].id !== me.value.turn);
    }
    d.subscribe(() => {
      markStale();
      const turn = latest();
      if (!turn) { if (!d.visibleColumns().some((c) => c.value.turns.length)) { if (me.asked) me.wanted = { turn: null }; me.asked = ""; me.value = {}; fill(element); } return; }
      const answers = d.visibleColumns().flatMap((c) => (c.value.turns.at(-1)?.answers || []).filter((a) => !a.continued).map((a) => a.id));
      const key = turn.id + answers.join();
      if (key === me.asked) return;
      const roles = new Set(d.visibleColumns().map((c) => c.element.closest(".dt-col")?.dataset.role));
      if (!roles.has("base") || !roles.has("candidate")) return;
      me.asked = key;
      ask(me.value.path_of || "base", false);
    });

    d.bind(props, watch, (value) => {
      if (!value.state || value.state === "none" || !isWanted(value)) return;
      if (value.state !== "done" || value.answer !== me.value.answer) me.at = -1;
      me.value = value;
      markStale();
      draw();
    });

    /** Scores and picture reliance come by two events: a slow one of what was looked at before must not replace what is now. */
    function isWanted(value) {
      const { turn, of, candidate } = me.wanted || {};
      return !me.wanted || (value.turn === turn && value.path_of === of && (!candidate || !value.candidate || value.candidate === candidate));
    }
    function draw() { d.keepFocus(element, redraw); }
    function redraw() {
      const value = me.value;
      const paths = el("span", { class: "dt-switch", role: "group", "aria-label": "Whose answer" }, ["base", "candidate"].map((path) =>
        el("button", { type: "button", class: "dt-link", "aria-pressed": String(value.path_of === path), onclick: () => ask(path, false) }, `${path === "base" ? "Base" : "Candidate"}'s answer`)));
      const head = el("header", {}, el("h3", {}, "Divergence"), paths, candidates(value));
      if (value.state !== "done") {
        const words = {
          busy: el("p", { class: "dt-soft dt-pulse" }, "Scoring the same tokens under both models"),
          idle: el("p", { class: "dt-soft" }, d.recorded ? "This answer was not scored when it was recorded." : [value.by_turns ? "Not scored yet: the two engines take turns, and each is woken for it. " : "Not scored yet, since an engine is not ready. ", el("button", { type: "button", class: "dt-link", onclick: () => ask(value.path_of, true) }, value.by_turns ? "Score" : "Score when ready")]),
          refused: el("p", {}, value.message, " ", el("span", { class: "dt-soft" }, value.hint || "")),
        };
        fill(element, head, words[value.state]);
        return;
      }
      const modes = el("select", { class: "dt-mode", "aria-label": "What the colours show" },
        Object.entries(MODES).map(([key, mode]) => el("option", { value: key, selected: key === me.mode }, mode.name)));
      modes.addEventListener("change", () => { me.mode = modes.value; paint(); });
      head.append(modes, el("span", { class: "dt-soft dt-method", title: value.precision }, value.method_words));
      drawTokens();
      const eyesPart = eyes.attach(value);
      fill(element, head,
        el("div", { class: "dt-parts" }, el("div", {}, freeRun(value.free_run), forkNote, heat, map,
          el("p", { class: "dt-stats" }, [...value.figures[me.unit], value.floor_words[me.unit]].join(" · ")), value.notes.map((n) => el("p", { class: "dt-soft" }, n)), eyesPart,
          el("p", { class: "dt-soft dt-small-actions" }, el("button", { type: "button", class: "dt-link", onclick: () => histogram(value) }, "Histogram"), unitSwitch(),
            d.recorded ? null : el("button", { type: "button", class: "dt-link", onclick: () => ask(value.path_of, true) }, "Score again"))), side));
      sayForks();
      paint();
      const forks = forkList();
      select(me.at >= 0 ? me.at : forks.length ? forks[0] : highest());
    }

    /** Which candidate is scored, where a turn has several. */
    function candidates(value) {
      if (!value.candidates || value.candidates.length < 2) return null;
      const list = el("select", { class: "dt-mode", "aria-label": "Which candidate" },
        value.candidates.map(([id, label]) => el("option", { value: id, selected: id === value.candidate }, label)));
      list.addEventListener("change", () => { me.candidate = list.value; ask(value.path_of, false); });
      return list;
    }
    function unitSwitch() {
      const other = me.unit === "nats" ? "bits" : "nats";
      return el("button", { type: "button", class: "dt-link", onclick: () => { me.unit = other; const at = me.at; draw(); select(at); } }, `Show ${other}`);
    }

    /** Where the two answers themselves part, each model going on by itself. */
    function freeRun(run) {
      if (!run) return null;
      if (run.fork === null) return el("p", {}, "Free run: both wrote the same tokens.");
      const side = (choice) => choice.text === null ? "has ended" : [el("code", {}, inLine(choice.text)), choice.probability === null ? "" : ` ${choice.probability.toFixed(2)}`];
      return el("p", { class: "dt-free" }, `Free run: the answers part at token ${run.fork + 1}: base `, side(run.base), " → candidate ", side(run.candidate), ". ",
        el("button", { type: "button", class: "dt-link", onclick: () => sideBySide(run) }, "Both answers, aligned"));
    }
    function sideBySide(run) {
      d.openSheet("Both answers, aligned",
        el("p", { class: "dt-soft" }, `Each model went its own way from token ${run.fork + 1} on. Where the words agree they stand once.`),
        el("div", { class: "dt-aligned" }, el("b", {}, "Base"), el("b", {}, "Candidate"),
          run.aligned.map((part) => part.length === 1 ? el("p", { class: "dt-both" }, inLine(part[0])) : [el("p", { class: "dt-only-base" }, inLine(part[0])), el("p", { class: "dt-only-cand" }, inLine(part[1]))])));
    }

    function drawTokens() {
      me.spans = me.value.tokens.map((token, index) => el("span", { class: "dt-tok", "data-i": index }, shown(token)));
      fill(heat, me.spans);
    }
    /** What lies within the noise is no difference, whichever figure shows it; the pictures' modes have noise of their own. */
    function levelOf(token) {
      const level = MODES[me.mode].level(token, me.value.floor ?? 0);
      return level > 0 && token.low && !d.eyesModes[me.mode] ? 0 : level;
    }
    function paint() {
      me.value.tokens.forEach((token, index) => {
        const level = levelOf(token);
        me.spans[index].className = `dt-tok dt-l${level === null ? "x" : level}${token.f ? " dt-fork" : ""}${index === me.at ? " dt-at" : ""}`;
      });
      drawMap();
    }
    function drawMap() {
      const tokens = me.value.tokens, mode = MODES[me.mode];
      const width = map.clientWidth || 600, ratio = window.devicePixelRatio || 1;
      map.width = width * ratio; map.height = 34 * ratio;
      const pen = map.getContext("2d"), style = getComputedStyle(element);
      pen.scale(ratio, ratio);
      const values = tokens.map((t) => mode.value(t) ?? 0), top = Math.max(...values, 1e-9), step = width / tokens.length;
      values.forEach((v, i) => {
        const above = levelOf(tokens[i]) > 0;
        pen.fillStyle = style.getPropertyValue(above ? "--cand" : "--line");
        const h = Math.max(1.5, Math.sqrt(v / top) * 28);
        pen.fillRect(i * step, 31 - h, Math.max(step - (step > 4 ? 1 : 0), 0.6), h);
        if (tokens[i].f) { pen.fillStyle = style.getPropertyValue("--ink"); pen.fillRect(i * step, 32, Math.max(step - 1, 1.5), 2); }
      });
      if (me.at >= 0) { pen.strokeStyle = style.getPropertyValue("--ink"); pen.strokeRect(me.at * step + 0.5, 0.5, Math.max(step - 1, 2), 33); }
    }
    function forkList() { return me.value.state === "done" ? me.value.tokens.flatMap((t, i) => (t.f ? [i] : [])) : []; }
    function highest() {
      let best = 0;
      me.value.tokens.forEach((t, i) => { if ((t.kl ?? -1) > (me.value.tokens[best].kl ?? -1)) best = i; });
      return best;
    }
    /** What base and candidate each find likeliest, of what they list themselves: the other may not list it. */
    function pair(token) {
      const first = (column) => token.top.filter((row) => row[column] !== null).sort((a, b) => b[column] - a[column])[0];
      return first(1) && first(2) ? [first(1), first(2)] : null;
    }
    function apartFromForks() {
      const count = me.value.tokens.length, ties = me.value.tokens.filter((t) => t.tie).length, unknown = me.value.tokens.filter((t) => t.f === null).length;
      return (ties ? ` At ${ties} token${ties > 1 ? "s" : ""} the likeliest differ within the noise: no fork.` : "")
        + (unknown ? ` At ${unknown} of ${count} tokens it is not known whether both would choose the same.` : "");
    }
    function sayForks() {
      const forks = forkList(), rest = apartFromForks();
      if (!forks.length) { fill(forkNote, rest ? `Same path: no fork found.${rest}` : "Same path: no fork, at every token both would choose the same."); return; }
      const first = forks[0], both = pair(me.value.tokens[first]);
      fill(forkNote, `Same path: ${forks.length} fork${forks.length > 1 ? "s" : ""}, the first at token ${first + 1}`,
        both ? [": base ", el("code", {}, inLine(both[0][0])), ` ${both[0][1].toFixed(2)} → candidate `, el("code", {}, inLine(both[1][0])), ` ${both[1][2].toFixed(2)}`] : "", `.${rest}`,
        el("span", { class: "dt-head-actions" }, el("button", { type: "button", class: "dt-link", title: "Key p", onclick: () => jump(-1) }, "‹ Previous fork"), el("button", { type: "button", class: "dt-link", title: "Key n", onclick: () => jump(1) }, "Next fork ›")));
    }
    function jump(direction) {
      const forks = forkList();
      if (!forks.length) return false;
      const next = direction > 0 ? forks.find((i) => i > me.at) : [...forks].reverse().find((i) => i < me.at);
      select(next ?? (direction > 0 ? forks[0] : forks[forks.length - 1]), true);
      return true;
    }
    function select(index, scroll) {
      if (index < 0 || index >= me.spans.length) return;
      me.spans[me.at]?.classList.remove("dt-at");
      me.at = index;
      me.chosen = firstChoice(me.value.tokens[index]);
      me.spans[index].classList.add("dt-at");
      if (scroll) me.spans[index].scrollIntoView({ block: "nearest" });
      drawMap();
      inspect(index);
    }
    /** Which alternative is offered for going on: at a fork the base's, where the base's path is looked at. */
    function firstChoice(token) {
      const both = token.f ? pair(token) : null;
      return both ? Math.max(token.top.indexOf(both[me.value.path_of === "candidate" ? 1 : 0]), 0) : 0;
    }
    /** A new sibling answer in the column of that role: it is given the tokens before this one, and the chosen one. */
    function goOn(role, index) {
      const chosen = me.value.tokens[index]?.top[me.chosen];
      if (me.value.method !== "exact" || !chosen || !(chosen[3] >= 0)) return false;
      const column = columnOf(me.value[role], { id: me.value.turn });
      if (!column || d.isStreaming()) { d.toast(column ? "Wait until the answers are written" : `No ${role} column shows this turn`); return true; }
      delete d.state.selected[column.value.turns.find((t) => t.id === me.value.turn).answers[0].id]; // the new one is looked at
      column.trigger("force", { turn: me.value.turn, answer_id: me.value.answer, index, token_id: chosen[3] });
      column.element.closest(".dt-col").scrollIntoView({ block: "nearest", behavior: "smooth" });
      return true;
    }
    function goOnButtons(index) {
      const token = me.value.tokens[index], chosen = token.top[me.chosen];
      if (me.value.method !== "exact" || !chosen || d.recorded) return null;
      return el("p", { class: "dt-go-on" }, "Force ", el("code", {}, inLine(chosen[0])), " into ",
        ["candidate", "base"].map((role) => el("button", { type: "button", class: "dt-link", title: role === "candidate" ? "Key f" : null, onclick: () => goOn(role, index) }, `the ${role}`)));
    }
    function inspect(index) {
      const token = me.value.tokens[index], both = pair(token);
      const title = el("h4", {}, token.f ? `Fork at token ${index + 1}` : `Token ${index + 1} of ${me.value.tokens.length}`);
      const words = both && (token.f || token.tie)
        ? el("p", {}, "The base finds ", el("code", {}, inLine(both[0][0])), " likeliest, the candidate ", el("code", {}, inLine(both[1][0])), token.tie ? ": a tie within the noise." : ".")
        : el("p", {}, el("code", {}, shown(token)));
      const top = Math.max(...token.top.map(([, p, q]) => Math.max(p ?? 0, q ?? 0)), 1e-9);
      const bar = (side, p) => el("span", { class: `dt-bar dt-bar-${side}`, title: percent(p) }, el("i", { style: `width:${Math.round(((p ?? 0) / top) * 100)}%` }));
      const choose = (row) => { me.chosen = row; inspect(index); };
      const rows = token.top.map(([text, p, q], row) => el("div", { class: "dt-bars" }, el("small", {}, percent(p)), bar("base", p),
        el("button", { type: "button", class: "dt-alt", "aria-pressed": String(row === me.chosen), title: d.recorded ? null : "Choose it to go on from", onclick: () => choose(row) }, inLine(text)), bar("cand", q), el("small", {}, percent(q))));
      const times = me.value.floor > 0 && token.kl !== null ? (token.kl > me.value.floor ? `, ${Math.round(token.kl / me.value.floor).toLocaleString()} × the highest noise` : ", within the noise: no difference") : "";
      const facts = token.kl === null ? "Not on the same path, or nothing that both sides list."
        : `KL ${me.value.method === "exact" ? "" : "≥ "}${number(inUnit(token.kl), 4)} ${me.unit}${times} · Δp ${number(token.dp === null ? null : token.dp * 100, 2)} % · rank ${token.rb ?? "?"} → ${token.rc ?? "?"}` + (token.hb === null ? "" : ` · entropy ${number(inUnit(token.hb), 2)} → ${number(inUnit(token.hc), 2)}`) + (token.m !== null && token.m < 0.9995 ? ` · ${percent(token.m)} of the base covered` : "");
      fill(said, title, words);
      d.keepFocus(more, () => fill(more, el("div", { class: "dt-mirror", role: "group", "aria-label": "Probabilities of both models" }, el("div", { class: "dt-bars dt-soft" }, el("small", {}), el("span", {}, "Base"), el("span", {}), el("span", {}, "Candidate"), el("small", {})), rows), el("p", { class: "dt-soft" }, facts), eyes.about(token),
        goOnButtons(index),
        el("p", { class: "dt-soft" }, el("kbd", {}, "n"), " ", el("kbd", {}, "p"), " next, previous fork", me.value.method === "exact" && !d.recorded ? [" · ", el("kbd", {}, "f"), " force"] : "")));
    }
    function inUnit(nats) { return nats === null || me.unit === "nats" ? nats : nats / Math.LN2; }
    function histogram(value) {
      const edges = [0, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.2, 1, Infinity], counts = new Array(edges.length - 1).fill(0);
      value.tokens.forEach((t) => { if (t.kl !== null) counts[edges.findIndex((e, i) => t.kl >= e && t.kl < edges[i + 1])] += 1; });
      const most = Math.max(...counts, 1);
      d.openSheet("Tokens by divergence", el("table", { class: "dt-table dt-histogram" }, el("tbody", {}, counts.map((count, i) =>
        el("tr", {}, el("th", { scope: "row" }, edges[i + 1] === Infinity ? `${edges[i]} nats and more` : `${edges[i]} to ${edges[i + 1]}`),
          el("td", {}, el("i", { style: `width:${(count / most) * 240}px` })), el("td", {}, String(count)))))));
    }
    heat.addEventListener("click", (event) => { const span = event.target.closest(".dt-tok"); if (span) select(Number(span.dataset.i)); });
    heat.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) { select(me.at + step, true); event.preventDefault(); }
    });
    map.addEventListener("click", (event) => select(Math.floor((event.offsetX / map.clientWidth) * me.value.tokens.length), true));
    new ResizeObserver(() => { if (me.value.state === "done") drawMap(); }).observe(element);
    /** Keys are for what is in sight: not behind an open sheet, not on another tab. */
    const inSight = (act) => () => element.checkVisibility() && !document.querySelector("dialog[open]") && me.value.state === "done" && act();
    d.onKey("n", "Next fork", inSight(() => jump(1)));
    d.onKey("p", "Previous fork", inSight(() => jump(-1)));
    if (!d.recorded) d.onKey("f", "Force the chosen token into the candidate", inSight(() => goOn("candidate", me.at)));
  };
})();
