/* The Models tab's memory plan: a question, a table of what fits where, bars of what takes the memory.
   Values from Python: components/models/memory_view.py. Sizes come in bytes and are shown in GiB. */
(function () {
  "use strict";
  const d = window.diptych;
  const { el, fill } = d;
  const OTHER = "other";
  const KV = [["", "As in the profile"], ["auto", "16 bits"], ["fp8_e4m3", "FP8"]];
  // How models lie on the GPUs: a field of the form, its label, its choices.
  const LAID = [
    ["arrangement", "Arrangement", [["", "As it fits"], ["apart", "Each on its own GPUs"], ["shared", "On the same GPUs"], ["alternately", "One at a time"]]],
    ["pipeline_parallel_size", "Over several GPUs", [["", "Tensor parallel"], ["2", "Pipeline of 2"], ["4", "Pipeline of 4"], ["8", "Pipeline of 8"]]],
    ["data_parallel_size", "Copies of each", [["", "1"], ["2", "2"], ["4", "4"]]],
  ];
  const gib = (bytes) => { const n = bytes / 2 ** 30; return `${n < 0.1 ? n.toFixed(4) : n < 10 ? n.toFixed(2) : n.toFixed(1)} GiB`; };
  const shared = { asked: "" };

  window.diptych.memoryPlan = function (element, props, trigger, watch) {
    const form = { model: "", other: "", users: "", context: "", kv_cache_dtype: "", arrangement: "", pipeline_parallel_size: "", data_parallel_size: "" };
    let drawn = "";
    d.bind(props, watch, (value) => {
      const choices = value.choices || [];
      if (JSON.stringify(value) === drawn) return;  // what was typed stays
      drawn = JSON.stringify(value);
      form.model = choices.some(([id]) => id === form.model) ? form.model : value.default || "";
      const other = field("Repository or folder", input("other", "owner/name, or an absolute path"));
      other.hidden = form.model !== OTHER;
      const pick = el("select", { onchange: () => { form.model = pick.value; other.hidden = form.model !== OTHER; if (form.model !== OTHER) ask(); } },
        choices.map(([id, label]) => el("option", { value: id, selected: id === form.model }, label)),
        value.may_read ? el("option", { value: OTHER, selected: form.model === OTHER }, "Another: a repository or a folder") : null);
      const fold = el("details", { class: "dt-more dt-memory", ontoggle: () => { if (fold.open && !shared.asked) ask(); } },
        el("summary", {}, "Memory plan: what fits on which GPUs"),
        el("form", { class: "dt-memory-form", onsubmit: (event) => { event.preventDefault(); ask(); } },
          field("Model", pick), other, field("Users at a time", input("users", "1")), field("Tokens of each", input("context", "as in the profile")),
          field("KV cache", choice("kv_cache_dtype", KV)), LAID.map(([name, label, choices]) => field(label, choice(name, choices))),
          el("button", { class: "dt-btn", type: "submit" }, "Plan")));
      fold.open = Boolean(element.querySelector("details")?.open);
      fill(element, fold);
    });
    function input(name, placeholder) { return el("input", { type: "text", value: form[name], placeholder, oninput: (event) => { form[name] = event.target.value; } }); }
    function choice(name, choices) {
      const control = el("select", { onchange: () => { form[name] = control.value; ask(); } }, choices.map(([id, label]) => el("option", { value: id, selected: id === form[name] }, label)));
      return control;
    }
    function field(label, control) { return el("label", { class: "dt-field" }, el("span", {}, label), control); }
    function ask() {
      const model = form.model === OTHER ? form.other.trim() : form.model;
      if (!model) return;
      const { model: _model, other: _other, ...options } = form;
      const wish = { model, options };
      shared.asked = JSON.stringify(wish);
      trigger("plan", { ...wish, key: shared.asked });
    }
  };

  window.diptych.memoryPlanResult = function (element, props, trigger, watch) {
    d.bind(props, watch, (value) => {
      if (!value.key || value.key !== shared.asked) return;  // an answer to an earlier question
      if (value.refused) { fill(element, el("p", { class: "dt-alarm dt-alarm-error", role: "alert" }, value.refused)); return; }
      draw(element, value.plan);
    });
  };

  function draw(element, plan) {
    const sizes = [...new Set(plan.fits.map((fit) => fit.memory_gb))], counts = [...new Set(plan.fits.map((fit) => fit.gpus))];
    const find = (size, count) => plan.fits.find((fit) => fit.memory_gb === size && fit.gpus === count);
    const detail = el("div", { class: "dt-memory-detail", "aria-live": "polite" });
    const buttons = [];
    const cell = (fit) => {
      const button = el("button", { class: `dt-fit dt-fit-${fit.verdict}`, type: "button", "aria-pressed": "false", onclick: () => choose(fit, button) },
        el("span", {}, fit.words), fit.note ? el("small", {}, fit.note) : null);
      buttons.push([fit, button]);
      return el("td", {}, button);
    };
    function choose(fit, button) {
      for (const [, other] of buttons) other.setAttribute("aria-pressed", String(other === button));
      fill(detail, seats(fit));
    }
    fill(element, el("div", { class: "dt-memory-result" },
      el("p", { class: "dt-soft" }, `For ${plan.users} user${plan.users === 1 ? "" : "s"} at ${plan.context.toLocaleString("en")} tokens each, at most ${Math.round(plan.gpu_memory_utilization * 100)} % of each GPU. Choose a cell for its GPUs and flags.`),
      el("div", { class: "dt-scroll", tabindex: "0", role: "region", "aria-label": "What fits" }, el("table", { class: "dt-table dt-fits" },
        el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "GPU memory"), counts.map((count) => el("th", { scope: "col" }, count === 1 ? "1 GPU" : `${count} GPUs`)))),
        el("tbody", {}, sizes.map((size) => el("tr", {}, el("th", { scope: "row", title: find(size, counts[0]).hardware }, `${size} GB`), counts.map((count) => cell(find(size, count)))))))),
      detail, plan.models.map((model, index) => weights(model, plan, index)),
      plan.picture_tokens.length ? el("p", { class: "dt-soft" }, `Tokens of a picture: ${plan.picture_tokens.map((p) => `${p.width} × ${p.height}: ${p.tokens.toLocaleString("en")}`).join(" · ")}`) : null));
    const first = buttons.find(([fit]) => fit.verdict === "together" || fit.verdict === "fits") || buttons.find(([fit]) => fit.verdict === "alternately") || buttons[0];
    if (first) choose(...first);
  }

  function weights(model, plan, index) {
    const side = plan.models.length > 1 && index === 0 || /\/base$/.test(model.id) ? "base" : "cand";
    const rows = model.weights.map((part) => [`${part.part} · ${part.dtype}`, part.size_bytes]);
    const most = Math.max(...rows.map(([, size]) => size), model.kv_bytes);
    return el("section", { "aria-label": model.id }, el("h3", {}, model.id), el("p", { class: "dt-soft" }, `${gib(model.weights_bytes)} of weights, ${model.source_words}.`),
      el("table", { class: "dt-table dt-parts" }, el("tbody", {}, [...rows, [`KV cache of all users (${Math.round(model.kv_bytes_per_token / 1024 * 100) / 100} KiB a token)`, model.kv_bytes]].map(([name, size]) =>
        el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, bar([[side, size]], most)), el("td", { title: `${size.toLocaleString("en")} bytes` }, gib(size)))))),
      model.quantized ? null : el("p", { class: "dt-soft" }, `Quantizing it with 512 samples of 2,048 tokens: ${gib(model.calibration.cache_bytes)} of main memory beside the model; on the GPU ${gib(model.calibration.gptq_layer_bytes)} for a layer with GPTQ, ${gib(model.calibration.autoround_layer_bytes)} with AutoRound.`));
  }

  function bar(parts, most) {
    return el("span", { class: "dt-stack", "aria-hidden": "true" }, parts.map(([kind, size]) => el("i", { class: `dt-stack-${kind}`, style: `width:${Math.max(0, 100 * size / most).toFixed(2)}%` })));
  }

  function seats(fit) {
    const whole = fit.memory_gib * 2 ** 30;
    const title = el("h3", {}, `${fit.gpus} × ${fit.hardware}: ${fit.words.toLowerCase()}`);
    if (!fit.seats.length) return [title, el("p", { class: "dt-soft" }, "Not with this context on these GPUs. Fewer users, less context or an FP8 KV cache may help; or serve the base elsewhere.")];
    return [title, fit.start ? line("To serve the pair like this on such a machine:", fit.start) : null, fit.seats.map((seat, index) => el("div", { class: "dt-seat" },
      el("p", {}, el("b", {}, seat.model), ` on GPU ${seat.gpus.join(", ")}`, seat.gpus.length > 1 ? ", each with " : ": ",
        `${gib(seat.weights_bytes)} weights, ${gib(seat.kv_bytes)} KV cache for ${seat.context.toLocaleString("en")} tokens each, ${gib(seat.reserve_bytes)} beside.`),
      bar([[fit.seats.length > 1 && index === 0 || /\/base$/.test(seat.model) ? "base" : "cand", seat.weights_bytes], ["kv", seat.kv_bytes], ["reserve", seat.reserve_bytes]], whole),
      el("pre", { class: "dt-log dt-flags" }, [`CUDA_VISIBLE_DEVICES=${seat.gpus.join(",")}`, ...seat.flags].join("\n")),
      seat.command ? el("p", {}, copy("Copy as a command of vLLM alone", seat.command)) : null)),
      fit.gpus > 1 || fit.verdict === "alternately" ? el("p", { class: "dt-soft" }, "Several GPUs, and vLLM's sleep mode where models take turns, were not yet tried on a GPU here.") : null];
  }

  function line(words, command) {
    return el("div", {}, el("p", { class: "dt-soft" }, words, " ", copy("Copy", command)), el("pre", { class: "dt-log dt-command" }, command));
  }
  function copy(words, command) { return el("button", { class: "dt-link", type: "button", onclick: () => d.copyText(command) }, words); }
})();
