/* The card "Repeat": the turn's question asked again with other seeds. Value from Python (compare/tab_repeat.py _Shown).
   Every answer comes from a model and only ever becomes DOM through textContent. */
(function () {
  "use strict";
  const d = window.diptych;
  const { el, fill, setText } = d;
  const SHORT = 150; // characters of an answer before it is folded
  const FEW = 6; // different answers shown before the rest is folded
  const WARM = 0.7;
  const GREEDY = "At temperature 0 a model takes its likeliest token at every step, whatever the seed: repeats then show rounding in other batches only, not how sure the model is. ";

  window.diptych.repeat = function (element, props, trigger, watch) {
    const me = { value: {}, run: null, runs: [], asked: {}, turn: "", key: "", made_us: 0, mine: false, edited: false };
    const count = number("Samples", { min: 2, step: 1 }), hot = number("Temperature", { min: 0, max: 2, step: "any", placeholder: "as asked" }), seed = number("First seed", { min: 0, step: 1 });
    const go = el("button", { class: "dt-btn dt-small", type: "submit" });
    const stop = el("button", { class: "dt-btn dt-small", type: "button", onclick: () => me.run && trigger("halt", { repeat: me.run.id }) }, "Stop");
    const form = el("form", { class: "dt-repeat-form", novalidate: true }, count.box, hot.box, seed.box, go, stop);
    const earlier = el("select", { class: "dt-mode", "aria-label": "Which repeat" });
    const head = el("header", {}, el("h3", {}, "Repeat"), form, earlier);
    const why = el("span", {}, GREEDY);
    const greedy = el("p", { class: "dt-soft" }, why, el("button", { type: "button", class: "dt-link dt-underlined", onclick: () => { hot.input.value = WARM; me.edited = true; say(); hot.input.focus(); } }, `Use ${WARM}`), " instead");
    const trouble = el("p", { class: "dt-bad", role: "alert" });
    const status = el("p", { class: "dt-soft", role: "status" }), bar = el("progress", { max: 1, "aria-label": "How far it is" });
    const body = el("div", {});

    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (running()) return;
      setText(trouble, "");
      me.mine = true;
      me.edited = false;
      trigger("run", { turn: me.turn, n: given(count), temperature: given(hot), seed: given(seed) });
    });
    form.addEventListener("input", () => { me.edited = true; say(); });
    earlier.addEventListener("change", () => { me.edited = false; trigger("look", { turn: me.turn, repeat: earlier.value }); });

    function number(label, attributes) {
      const input = el("input", { type: "number", inputmode: "decimal", ...attributes });
      return { input, box: el("label", {}, el("span", {}, label), input) };
    }
    /** What stands in a field; null = empty, which means as the turn was asked. What is no number goes as it is. */
    function given(field) {
      if (field.input.validity.badInput) return "no number";
      return field.input.value === "" ? null : Number(field.input.value);
    }
    function running() { return me.run !== null && me.run.state === "running"; }

    /** The newest turn, once all columns have ended. */
    function latest() {
      const turns = d.turnsOfPage();
      return d.isStreaming() || !turns.length ? null : turns[turns.length - 1];
    }
    d.subscribe(() => {
      const turns = d.turnsOfPage();
      element.classList.toggle("dt-stale", !!me.turn && !!turns.length && turns[turns.length - 1].id !== me.turn);
      const turn = latest();
      if (!turn) { if (!turns.length && me.key) { Object.assign(me, { turn: "", key: "", run: null }); fill(element); } return; }
      if (turn.id === me.key) return;
      me.key = turn.id;
      trigger("look", { turn: turn.id });
    });

    d.bind(props, watch, (value) => {
      // Only of the turn that is looked at, and no older value that came back.
      if (!value.turn || value.turn !== me.key || value.made_us < me.made_us) return;
      me.made_us = value.made_us;
      if (value.turn !== me.turn) begin(value);
      setText(trouble, value.state === "refused" ? `${value.message} ${value.hint || ""}` : "");
      if (value.runs) { me.runs = value.runs; me.mine = false; }
      if (value.state === "refused") me.mine = false; else me.run = value.run || null;
      // What is shown and what the fields say belong together, but for what somebody typed meanwhile.
      if (value.runs && me.run && !me.edited) prefill(me.run.asked);
      if (running() && !me.mine) setTimeout(() => { if (running() && !me.mine && me.turn === value.turn) trigger("look", { turn: me.turn, repeat: me.run.id }); }, 2000);
      draw();
    });

    /** A turn that was not shown before: the fields say what it was asked with. */
    function begin(value) {
      Object.assign(me, { turn: value.turn, run: null, runs: [], mine: false, edited: false, asked: value.asked || {} });
      count.input.max = value.most;
      prefill({ n: value.usual, ...me.asked });
      fill(element, head, greedy, trouble, status, bar, body);
    }
    function prefill(asked) {
      count.input.value = asked.n;
      hot.input.value = asked.temperature ?? "";
      seed.input.value = asked.seed ?? "";
    }
    function say() {
      const temperature = given(hot) ?? me.asked.temperature;
      greedy.hidden = temperature !== 0;
      why.hidden = me.run !== null && me.run.asked.temperature === 0; // it is said below the figures
      setText(go, typeof given(count) === "number" ? `Repeat ×${given(count)}` : "Repeat");
    }

    function draw() {
      const run = me.run;
      say();
      go.hidden = running();
      stop.hidden = !running();
      earlier.hidden = running() || me.runs.length < 2;
      fill(earlier, me.runs.map((r) => el("option", { value: r.id, selected: run !== null && r.id === run.id }, r.title)));
      bar.hidden = !running();
      if (run) bar.value = run.done / run.wanted;
      setText(status, statusWords(run));
      fill(body, run && run.done ? [columns(run), rates(run), run.notes.map((note) => el("p", { class: "dt-soft" }, note))] : []);
    }
    function statusWords(run) {
      if (!run) return "Asks the same question again with other seeds and counts the different answers, so that chance is not taken for a difference.";
      if (run.state === "running") return `${run.done} of ${run.wanted} samples` + (run.waiting ? ` · ${run.waiting}` : "");
      const whole = run.state === "finished" ? "" : ` · ${run.state_words}, ${run.done} of ${run.wanted} samples`;
      return `${run.title}${whole} · answers that differ in white space only count as one`;
    }

    function columns(run) {
      return el("div", { class: "dt-repeat-columns" }, run.columns.map((column) => {
        const rows = column.answers.map((answer) => row(answer, column.answered));
        const rest = rows.splice(FEW);
        return el("section", { "data-role": column.role, "aria-label": column.model },
          el("h4", {}, el("span", { class: "dt-dot", "aria-hidden": "true" }), column.model),
          el("p", { class: "dt-soft" }, column.facts.join(" · ")),
          el("ul", { class: "dt-said" }, rows),
          rest.length ? el("details", {}, el("summary", { class: "dt-soft" }, `${rest.length} more`), el("ul", { class: "dt-said" }, rest)) : null);
      }));
    }
    function row(answer, of) {
      return el("li", {}, el("b", {}, `${answer.count}×`),
        el("span", { class: "dt-share", role: "img", "aria-label": `${answer.count} of ${of}` }, el("i", { style: `width:${(answer.count / of) * 100}%` })),
        text(answer));
    }
    function text(answer) {
      const calls = answer.calls.map((call) => el("code", {}, d.visible(call)));
      const whole = answer.text.trim(), line = whole.replace(/\s+/g, " ");
      if (!whole) return el("div", {}, calls.length ? calls : el("span", { class: "dt-soft" }, "(no text)"));
      if (line.length <= SHORT) return el("div", {}, el("q", {}, d.visible(line)), calls);
      const cut = [...line].slice(0, SHORT - 20).join("");
      return el("div", {}, el("details", {}, el("summary", {}, el("q", {}, d.visible(cut), "…")), el("pre", {}, lines(whole), answer.cut ? el("span", { class: "dt-soft" }, " … (JSON and Markdown have the rest)") : "")), calls);
    }
    function lines(whole) { return whole.split("\n").flatMap((line, i) => [i ? "\n" : "", line ? d.visible(line) : ""]); }

    /** Both intervals on one scale from 0 to 100 %: whether they meet is what the sentence below says. */
    function rates(run) {
      if (!run.rates.length) return null;
      const place = (share) => `${(share * 100).toFixed(1)}%`;
      return el("div", { class: "dt-rates" }, run.rates.map((rate) => [
        el("span", {}, rate.label),
        el("span", { class: `dt-scale dt-scale-${rate.role}`, "aria-hidden": "true" },
          el("i", { style: `left:${place(rate.low)};width:${place(rate.high - rate.low)}` }), el("b", { style: `left:${place(rate.value)}` })),
        el("span", { class: "dt-soft" }, rate.figures)]),
        run.state === "running" ? null : run.rates.filter((rate) => rate.verdict).map((rate) => el("p", {}, rate.verdict)));
    }
  };
})();
