/* The composer: one prompt and its pictures for all columns. Pictures are checked and canonicalised when they arrive,
   not when the question is sent. Value from Python: {examples: [{label, prompt, image}], max_images, vision, asking}. */
(function () {
  "use strict";
  const d = window.diptych;
  const { el, fill, setText } = d;

  window.diptych.composer = function (element, props, trigger, watch, server, upload) {
    if (d.recorded) { d.sentence(element, { get value() { return { text: (props.value || {}).recorded }; } }, trigger, watch); return; }
    let settings = {};
    const area = el("textarea", { rows: 1, class: "dt-prompt", "aria-label": "Prompt for all columns", placeholder: "Ask all columns about the picture…" });
    const input = el("input", { type: "file", accept: "image/png,image/jpeg,image/webp", multiple: true, hidden: true, "aria-label": "Add pictures" });
    const add = el("button", { class: "dt-btn", type: "button", title: "Add pictures (or drop or paste them anywhere on the page)" }, "+ image");
    const ask = el("button", { class: "dt-go", type: "button" }, "Ask both");
    const stop = el("button", { class: "dt-go dt-stop", type: "button", title: "Esc" }, "Stop");
    const thumbs = el("div", { class: "dt-thumbs" });
    const trouble = el("div", { class: "dt-composer-trouble", role: "alert" });
    const editing = el("div", { class: "dt-editing" });
    const clear = el("button", { class: "dt-btn", type: "button", title: "Start a new conversation; this one stays in the history" }, "New");
    const examples = el("div", { class: "dt-examples" });
    fill(element, el("div", { class: "dt-composer" }, examples, trouble, editing, thumbs,
      el("div", { class: "dt-line" }, add, input, area, clear, ask, stop)));

    /* ---- pictures ---- */
    function say(message, hint) {
      const line = el("p", {}, el("b", {}, message), hint ? " " + hint : "", " ",
        el("button", { class: "dt-link", type: "button", onclick: () => line.remove() }, "Dismiss"));
      trouble.append(line);
    }
    async function attach(files) {
      const room = settings.max_images - d.state.attached.length;
      const chosen = Array.from(files).slice(0, Math.max(room, 0));
      if (!settings.vision) { say("This pair reads text only.", "Choose a pair of vision models to ask about pictures."); return; }
      if (files.length > chosen.length) say(`${d.state.attached.length + files.length} images are too many: a turn takes at most ${settings.max_images}.`,
        chosen.length ? `The first ${chosen.length} of the new ones ${chosen.length === 1 ? "was" : "were"} kept.` : "Remove one first.");
      await Promise.all(chosen.map(attachOne));
    }
    async function attachOne(file) {
      const item = { name: file.name || "pasted picture", busy: true, key: d.randomKey() };
      d.state.attached.push(item); d.changed();
      try {
        if (file.size > settings.max_file_bytes) throw { said: { message: `“${item.name}” is ${(file.size / 1e6).toFixed(1)} MB.`, hint: `At most ${settings.max_file_bytes / 1e6} MB are accepted.` } };
        const stored = await upload(file);
        accept(item, await server.ingest({ path: stored.path, name: item.name }));
      } catch (fault) { refuse(item, fault); }
    }
    function accept(item, answer) {
      if (answer.error) throw { said: answer.error };
      if (!d.state.attached.includes(item)) return;
      Object.assign(item, answer.image, { busy: false });
      for (const note of item.notes) d.toast(`${item.name}: ${note}`);
      d.changed();
    }
    function refuse(item, fault) {
      d.state.attached = d.state.attached.filter((other) => other !== item);
      if (fault.said) say(fault.said.message, fault.said.hint);
      else { say(`“${item.name}” could not be uploaded.`, "Try again; the prompt is untouched."); console.error(fault); }
      d.changed();
    }
    async function useExample(index) {
      const example = settings.examples[index];
      area.value = example.prompt; grow(); area.focus();
      if (!example.image) return;
      d.state.attached = [];
      const item = { name: example.image, busy: true, key: d.randomKey() };
      d.state.attached.push(item); d.changed();
      try { accept(item, await server.example({ index })); } catch (fault) { refuse(item, fault); }
    }

    /* ---- asking ---- */
    function send() {
      const prompt = area.value;
      if (ask.disabled) return;
      if (!prompt.trim()) { waiting = false; area.focus(); say("The prompt is empty.", "Write a question first."); return; }
      // Right after the page was opened its columns may still be on their way; the question waits for them.
      if (!d.columnsDrawn()) { waiting = true; say("The page is still loading.", "The question is sent as soon as its columns are there."); return; }
      waiting = false;
      fill(trouble);
      const turns = d.turnsOfPage();
      const target = d.state.editing;
      const parent = target ? target.parent : turns.length ? turns[turns.length - 1].id : null;
      const question = { key: d.randomKey(), prompt, images: d.state.attached.map((i) => i.sha256), names: d.state.attached.map((i) => i.name),
        parent, history: d.history() };
      for (const column of d.visibleColumns()) trigger(`ask${column.position}`, question);
      sent = { prompt, attached: d.state.attached };
      area.value = ""; d.state.attached = []; d.state.editing = null;
      grow(); d.changed();
    }
    let sent = null, waiting = false;
    d.subscribe(() => { if (waiting && d.columnsDrawn()) send(); });
    /* A refused question comes back into the box: nothing that a person wrote is lost. */
    window.addEventListener("diptych:refused", (event) => {
      say(event.detail.message, event.detail.hint);
      if (sent && !area.value) { area.value = sent.prompt; d.state.attached = sent.attached; grow(); d.changed(); }
    });
    window.addEventListener("diptych:edit", (event) => {
      const turns = d.turnsOfPage();
      const index = turns.findIndex((t) => t.id === event.detail.id);
      d.state.editing = { parent: index > 0 ? turns[index - 1].id : null };
      area.value = event.detail.prompt;
      d.state.attached = event.detail.images.map((image) => ({ ...image, key: d.randomKey(), busy: false }));
      grow(); area.focus(); d.changed();
    });
    function cancelEdit() { d.state.editing = null; d.state.attached = []; area.value = ""; grow(); d.changed(); }

    /* Another tab wants an engine to be seen: it becomes a column here, and the page goes there. */
    d.openEngine = (engine) => {
      trigger("open_engine", { engine });
      d.showTab("Compare");
    };

    /* A question from another tab in a new conversation: it stands in the box, and the person sends it. */
    d.askInCompare = ({ prompt, images, engine }) => {
      stopAll();
      d.newConversation();
      fill(trouble);
      d.state.editing = null;
      area.value = prompt;
      d.state.attached = images.map((image) => ({ ...image, key: d.randomKey(), busy: false }));
      d.openEngine(engine);
      grow(); area.focus(); d.changed();
    };

    function grow() { area.style.height = "auto"; area.style.height = Math.min(area.scrollHeight, 200) + "px"; remember(); }
    function remember() { try { sessionStorage.setItem("diptych.draft", area.value); } catch { /* private mode: a draft is a courtesy */ } }

    function drawState() {
      const streaming = d.isStreaming();
      const busy = d.state.attached.some((i) => i.busy);
      const count = d.visibleColumns().length || 2;
      setText(ask, count === 1 ? "Ask" : count === 2 ? "Ask both" : `Ask all ${count}`);
      ask.hidden = streaming; stop.hidden = !streaming; ask.disabled = busy;
      clear.hidden = !d.turnsOfPage().length; clear.disabled = streaming;
      examples.hidden = d.turnsOfPage().length > 0 || d.state.attached.length > 0;
      fill(thumbs, d.state.attached.map((item) => el("figure", { class: "dt-thumb" + (item.busy ? " dt-pulse" : ""), title: item.name },
        item.url ? el("img", { src: item.url, alt: item.name }) : el("span", {}, "…"),
        el("button", { class: "dt-icon", type: "button", "aria-label": `Remove ${item.name}`,
          onclick: () => { d.state.attached = d.state.attached.filter((o) => o !== item); d.changed(); } }, "✕"))));
      fill(editing, d.state.editing ? [el("span", {}, "Editing an earlier prompt: what followed stays in the history. "),
        el("button", { class: "dt-link", type: "button", onclick: cancelEdit }, "Cancel")] : []);
    }

    area.addEventListener("input", grow);
    area.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
    });
    ask.addEventListener("click", send);
    stop.addEventListener("click", stopAll);
    clear.addEventListener("click", () => { d.newConversation(); area.focus(); });
    add.addEventListener("click", () => input.click());
    input.addEventListener("change", () => { attach(input.files); input.value = ""; });
    function stopAll() {
      if (!d.isStreaming()) return false;
      const turns = d.turnsOfPage();
      trigger("halt", { turn: turns[turns.length - 1].id });
      return true;
    }

    window.addEventListener("paste", (event) => {
      const files = Array.from(event.clipboardData?.files || []).filter((f) => f.type.startsWith("image/"));
      if (files.length) { event.preventDefault(); attach(files); }
    });
    window.addEventListener("dragover", (event) => { if (event.dataTransfer?.types.includes("Files")) { event.preventDefault(); document.body.classList.add("dt-dropping"); } });
    window.addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dt-dropping"); });
    window.addEventListener("drop", (event) => {
      document.body.classList.remove("dt-dropping");
      if (event.dataTransfer?.files.length) { event.preventDefault(); attach(event.dataTransfer.files); }
    });
    d.onKey("/", "Write a prompt", () => area.focus());
    d.onKey("Escape", "Stop all columns", () => stopAll());

    d.bind(props, watch, (value) => {
      settings = { examples: [], max_images: 0, max_file_bytes: 20e6, vision: true, ...value };
      add.hidden = !settings.vision;
      fill(examples, settings.examples.length ? el("span", { class: "dt-soft" }, "Try") : null,
        settings.examples.map((example, index) => el("button", { class: "dt-example", type: "button", onclick: () => useExample(index) },
          example.url ? el("img", { src: example.url, alt: "" }) : null, el("span", {}, example.prompt))));
      drawState();
    });
    d.subscribe(drawState);
    // Gradio tells nobody when it shows or hides a column; the button must name how many are asked all the same.
    let shown = 0;
    setInterval(() => {
      const now = d.visibleColumns().length;
      if (now !== shown) { shown = now; drawState(); }
    }, 300);
    try { area.value = sessionStorage.getItem("diptych.draft") || ""; } catch { /* see remember() */ }
    grow();
  };
})();
