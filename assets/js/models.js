/* The Models tab: pairs, their engines, states, logs. Value from Python: components/models/view_model.py. */
(function () {
  "use strict";
  const d = window.diptych;
  const { el, button, fill, setText } = d;
  const NAMES = { start: "Start", stop: "Stop", restart: "Restart", wake: "Wake" };

  window.diptych.models = function (element, props, trigger, watch, server) {
    d.bind(props, watch, (value) => {
      const problems = (value.problems || []).map((text) => el("p", { class: "dt-alarm dt-alarm-error" }, text));
      fill(element, problems, (value.pairs || []).map((pair) => el("section", { class: "dt-pair" },
        el("h2", {}, pair.title), el("p", { class: "dt-soft" }, pair.description),
        pair.engines.map((engine) => row(engine, trigger, server)))));
    });
  };

  function row(engine, trigger, server) {
    const tone = engine.sight === "blind" || engine.state === "FATAL" ? "dt-bad" : engine.ready ? "dt-ok" : "";
    const words = engine.ready ? (engine.turn ? `${engine.turn}, ready` : "ready") : engine.message || engine.state.toLowerCase();
    return el("div", { class: "dt-engine-row dt-card", "data-role": engine.role, "data-engine": engine.id },
      el("div", { class: "dt-title" }, el("span", { class: "dt-dot", "aria-hidden": "true" }), el("b", {}, engine.label),
        el("span", { class: "dt-soft" }, engine.scheme),
        el("span", { class: "dt-head-actions" },
          engine.metrics ? el("a", { class: "dt-link", href: engine.metrics, target: "_blank", rel: "noopener" }, "Metrics") : null,
          engine.has_log ? button("Log", () => showLog(engine, server)) : null,
          engine.actions.map((action) => button(NAMES[action], () => trigger("act", { action, engine: engine.id }))))),
      el("p", { class: "dt-soft" }, engine.description),
      el("div", { class: "dt-chips" }, el("span", { class: `dt-chip ${tone}` }, engine.state),
        words.toLowerCase() === engine.state.toLowerCase() ? null : el("span", { class: `dt-chip ${tone}` }, words),
        engine.sight === "unknown" || engine.sight === "none" ? null : el("span", { class: `dt-chip ${tone}` }, `sight: ${engine.sight}`),
        engine.facts ? el("span", { class: "dt-facts-line" }, engine.facts) : null),
      engine.progress !== null && engine.progress !== undefined && !engine.ready ? el("progress", { max: 1, value: engine.progress }) : null,
      engine.reason ? el("div", { class: "dt-fault" }, el("b", {}, engine.reason), engine.hint ? " " + engine.hint : "") : null,
      engine.reason && engine.log.length ? el("pre", { class: "dt-log" }, engine.log.join("\n")) : null);
  }

  function showLog(engine, server) {
    const text = el("pre", { class: "dt-log", tabindex: "0" }, "Reading the log…");
    const sheet = d.openSheet(`Log of ${engine.label}`, text);
    let following = true;
    text.addEventListener("scroll", () => { following = text.scrollTop + text.clientHeight > text.scrollHeight - 40; });
    async function refresh() {
      if (!sheet.isConnected) return;
      try {
        const answer = await server.log({ engine: engine.id });
        setText(text, answer.lines.join("\n") || "The log is empty.");
        if (following) text.scrollTop = text.scrollHeight;
      } catch { setText(text, "The log could not be read; trying again."); }
      setTimeout(refresh, 1500);
    }
    refresh();
  }
})();
