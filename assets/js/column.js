/* One column of the Compare tab: the conversation with one engine. Value from Python (compare/view_model.py):
   {position, role, empty, turns: [{id, prompt, images, answers: [{id, attempt, engine, outcome, text, tools, error, stats, waiting, continued, note}]}]} */
(function () {
  "use strict";
  const d = window.diptych;
  const { el, link, fill, setText } = d;

  window.diptych.column = function (element, props, trigger, watch) {
    const root = element;
    const list = el("div", { class: "dt-turns", "aria-live": "polite" });
    const empty = el("p", { class: "dt-empty" });
    fill(root, empty, list);
    const me = { position: -1, value: null, element: root, views: new Map(), made_us: 0, trigger };

    function draw(value) {
      if (value.position === undefined || value.made_us < me.made_us) return; // an older value that came back
      const newest = value.turns.at(-1)?.id;
      if (newest && newest === d.state.left) return; // of the conversation that New has left
      me.made_us = value.made_us;
      me.position = value.position;
      me.value = value;
      d.state.columns[value.position] = me;
      setText(empty, value.turns.length ? "" : value.empty || "");
      const keep = new Set();
      value.turns.forEach((turn, index) => {
        keep.add(turn.id);
        let view = me.views.get(turn.id);
        if (!view) { view = turnView(me, turn.id, trigger); me.views.set(turn.id, view); list.append(view.node); }
        view.draw(turn, index === value.turns.length - 1);
      });
      for (const [id, view] of me.views) if (!keep.has(id)) { view.node.remove(); me.views.delete(id); }
      if (newest) d.showTurnInAddress(newest);
      d.changed();
    }
    me.draw = () => draw(me.value);
    d.bind(props, watch, draw);
    d.subscribe(() => {
      root.closest(".dt-col")?.classList.toggle("dt-raw", !!me.raw);
      // Another column may have been the last to end, which draws nothing here.
      const streaming = d.isStreaming();
      me.views.forEach((view) => { view.edit.hidden = streaming; });
    });
    me.setRaw = (raw) => { me.raw = raw; if (me.value) { me.views.forEach((v) => v.forget()); me.draw(); } };
  };

  function turnView(column, id, trigger) {
    const question = el("p", { class: "dt-question" });
    const edit = el("button", { class: "dt-link dt-edit", type: "button", title: "Change this prompt and ask again" }, "Edit");
    const asked = el("div", { class: "dt-asked" }, question, d.recorded ? null : edit);
    const answer = el("div", { class: "dt-answer" });
    const tools = el("div", { class: "dt-tools" });
    const wait = el("p", { class: "dt-wait" });
    const note = el("p", { class: "dt-note dt-soft" });
    const fault = el("div", { class: "dt-fault", role: "alert" });
    const stats = el("div", { class: "dt-stats" });
    const actions = el("div", { class: "dt-actions" });
    const node = el("article", { class: "dt-turn", "data-turn": id }, asked, note, answer, tools, wait, fault, stats, actions);
    let drawn = "", actionsDrawn = "", turnNow = null;

    edit.addEventListener("click", () => window.dispatchEvent(new CustomEvent("diptych:edit", { detail: turnNow })));

    function drawText(text, raw) {
      const key = (raw ? "raw:" : "md:") + text;
      if (key === drawn) return;
      drawn = key;
      answer.classList.toggle("dt-answer-raw", raw);
      if (raw) setText(answer, text);
      else fill(answer, d.renderMarkdown(text));
    }

    function draw(turn, isLast) {
      turnNow = turn;
      setText(question, turn.prompt);
      if (turn.images.length) question.append(el("span", { class: "dt-soft" }, ` · ${turn.images.length} image${turn.images.length > 1 ? "s" : ""}`));
      const current = turn.answers[d.pickedIndex(turn)];
      if (!current) { drawText("", true); setText(wait, "This column was not asked."); fill(stats); fill(note); fill(actions); actionsDrawn = ""; return; }
      const live = current.outcome === "streaming";
      drawText(current.text, !!column.raw || live);
      node.classList.toggle("dt-live", live && !!current.text);
      fill(tools, current.tools.map((call) => el("div", { class: "dt-tool" }, el("b", {}, call.name), el("pre", {}, call.arguments))));
      setText(wait, live && !current.text ? current.waiting || "Waiting for the first token" : "");
      wait.classList.toggle("dt-pulse", live && !current.text);
      drawFault(current);
      fill(note, (current.note || []).map(([kind, text]) => kind === "token" ? el("code", {}, d.inLine(text)) : text));
      fill(stats, current.stats ? [el("div", {}, current.stats), el("div", {}, current.settings)] : []);
      drawActions(turn, current, isLast, live);
    }

    function drawFault(current) {
      const said = current.error;
      if (said) fill(fault, el("b", {}, said.message), said.hint ? " " + said.hint : "");
      else if (current.outcome === "stopped") fill(fault, el("span", { class: "dt-soft" }, "Stopped. The text so far is kept."));
      else fill(fault);
    }

    function drawActions(turn, current, isLast, live) {
      // Only when something about them changes: a button that is replaced between press and release gets no click.
      const key = [live, isLast, !!current.text, ...turn.answers.map((a) => a.id), d.pickedIndex(turn)].join();
      if (key === actionsDrawn) return;
      actionsDrawn = key;
      const items = [];
      if (live) items.push(link("Stop", () => trigger("stop", { turn: turn.id, position: column.position }), "Stop this column only"));
      if (!live && isLast && !d.recorded) items.push(link("Retry", () => trigger("retry", { turn: turn.id, position: column.position }), "Ask this column again; this answer is kept"));
      if (!live && current.text) items.push(link("Copy", () => d.copyText(current.text), "Copy the raw text"));
      if (turn.answers.length > 1) items.push(siblings(turn));
      fill(actions, items);
    }

    function siblings(turn) {
      const index = d.pickedIndex(turn);
      const go = (step) => {
        d.state.selected[turn.answers[0].id] = turn.answers[index + step].id;
        drawn = "";
        draw(turnNow, true);
        d.changed();
      };
      return el("span", { class: "dt-siblings" },
        link("‹", () => go(-1), "Earlier answer", index === 0),
        `${index + 1} of ${turn.answers.length}`,
        link("›", () => go(1), "Later answer", index === turn.answers.length - 1));
    }
    return { node, draw, edit, forget: () => { drawn = ""; } };
  }

  /* ---- the head: which engine, in which state, what was and was not quantized ---- */
  window.diptych.head = function (element, props, trigger, watch) {
    const root = element;
    let raw = false;
    d.bind(props, watch, (value) => {
      if (!value.label) return;
      const column = root.closest(".dt-col");
      if (column) { column.dataset.role = value.role; column.dataset.state = value.ready ? "ready" : "waiting"; }
      const toggleRaw = link(raw ? "Rendered" : "Raw", () => {
        raw = !raw;
        d.state.columns[value.position]?.setRaw?.(raw);
        setText(toggleRaw, raw ? "Rendered" : "Raw");
      }, "Show the answer's text as it is, or its Markdown rendered");
      const maximise = link(column?.classList.contains("dt-max") ? "Restore" : "Maximise", () => maximiseColumn(column, maximise), "Give this column the whole width");
      fill(root,
        el("div", { class: "dt-title" }, el("span", { class: "dt-dot", "aria-hidden": "true" }),
          el("b", {}, value.role === "base" ? "Base" : "Candidate"), el("span", { class: "dt-soft" }, value.scheme),
          el("span", { class: "dt-head-actions" }, toggleRaw, maximise,
            link("Label", () => showLabel(value), "Everything that is known about this engine"))),
        el("div", { class: "dt-chips" }, value.chips.map((chip) =>
          el("span", { class: "dt-chip" + (chip.text.length > 24 ? " dt-chip-long" : "") + (chip.tone ? " dt-" + chip.tone : ""), title: chip.title }, chip.text))),
        value.ready || d.recorded ? null : stateLine(value, trigger));
    });
  };

  function stateLine(value, trigger) {
    const bar = value.progress === null || value.progress === undefined ? null
      : el("progress", { max: 1, value: value.progress, "aria-label": value.message });
    const start = value.can_start ? el("button", { class: "dt-btn", type: "button", onclick: () => trigger("start", {}) }, value.start_label) : null;
    return el("div", { class: "dt-state" + (value.trouble ? " dt-trouble" : "") },
      el("span", {}, value.message), bar, value.hint ? el("p", { class: "dt-soft" }, value.hint) : null, start);
  }

  function maximiseColumn(column, control) {
    const grid = column.parentElement;
    const on = !column.classList.contains("dt-max");
    grid.querySelectorAll(".dt-max").forEach((c) => c.classList.remove("dt-max"));
    column.classList.toggle("dt-max", on);
    grid.classList.toggle("dt-has-max", on);
    setText(control, on ? "Restore" : "Maximise");
  }

  function showLabel(value) {
    d.openSheet("Label of this column", el("table", { class: "dt-table" }, el("tbody", {},
      value.details.map(([name, content]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, content))))));
  }
})();
