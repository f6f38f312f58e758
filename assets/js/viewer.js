/* The pinned picture: zoom by wheel, keys or buttons, pan by dragging, one viewer for all columns; below it the proof
   that every column got the same pixels. It draws from the browser's state, not from a value of its own. */
(function () {
  "use strict";
  const d = window.diptych;
  const { el, link, fill, setText } = d;

  /** Zoom and pan for a picture on a stage; `isOn` says whether there is a picture now, `onZoom` hears of every enlargement. */
  d.zoomable = function (stage, picture, isOn, onZoom) {
    let zoom = 1, x = 0, y = 0;
    function place() { picture.style.transform = `translate(${x}px, ${y}px) scale(${zoom})`; stage.classList.toggle("dt-zoomed", zoom > 1); if (zoom > 1) onZoom?.(); }
    function setZoom(next, cx, cy) {
      const bounded = Math.min(Math.max(next, 1), 16);
      const box = stage.getBoundingClientRect();
      const px = (cx ?? box.left + box.width / 2) - box.left - box.width / 2, py = (cy ?? box.top + box.height / 2) - box.top - box.height / 2;
      x = px - (px - x) * (bounded / zoom); y = py - (py - y) * (bounded / zoom);
      zoom = bounded;
      if (zoom === 1) { x = 0; y = 0; }
      place();
    }
    function fullScreen() {
      if (document.fullscreenElement) document.exitFullscreen();
      else if (isOn()) { stage.requestFullscreen?.(); onZoom?.(); }
    }
    stage.addEventListener("wheel", (event) => { if (!isOn()) return; event.preventDefault(); setZoom(zoom * (event.deltaY < 0 ? 1.2 : 1 / 1.2), event.clientX, event.clientY); }, { passive: false });
    stage.addEventListener("dblclick", (event) => setZoom(zoom > 1 ? 1 : 3, event.clientX, event.clientY));
    stage.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] }[event.key];
      if (event.key === "+" || event.key === "=") setZoom(zoom * 1.5);
      else if (event.key === "-") setZoom(zoom / 1.5);
      else if (event.key === "0") setZoom(1);
      else if (step && zoom > 1) { x += step[0]; y += step[1]; place(); } else return;
      event.preventDefault();
      event.stopPropagation();
    });
    stage.addEventListener("pointerdown", (event) => {
      if (zoom <= 1 || event.defaultPrevented) return;
      stage.setPointerCapture(event.pointerId);
      const from = { x: event.clientX - x, y: event.clientY - y };
      const move = (e) => { x = e.clientX - from.x; y = e.clientY - from.y; place(); };
      stage.addEventListener("pointermove", move);
      stage.addEventListener("pointerup", () => stage.removeEventListener("pointermove", move), { once: true });
    });
    const control = (label, title, action) => el("button", { class: "dt-icon", type: "button", title, "aria-label": title, onclick: action }, label);
    const tools = el("div", { class: "dt-zoom" }, control("−", "Zoom out", () => setZoom(zoom / 1.5)), control("+", "Zoom in", () => setZoom(zoom * 1.5)),
      control("1:1", "Fit (0)", () => setZoom(1)), control("⤢", "Full screen (z)", fullScreen));
    return { tools, fullScreen, fit: () => setZoom(1) };
  };

  window.diptych.viewer = function (element) {
    const picture = el("img", { class: "dt-picture", alt: "", draggable: "false" });
    const stage = el("div", { class: "dt-stage", tabindex: "0", role: "group", "aria-label": "Picture: + and − zoom, arrows move, 0 fits" }, picture,
      el("p", { class: "dt-empty" }, "No picture yet. Drop one anywhere, paste it, or choose an example."));
    const strip = el("div", { class: "dt-strip" });
    const facts = el("div", { class: "dt-facts" });
    let shown = 0, images = [];
    const { tools, fullScreen, fit } = d.zoomable(stage, picture, () => images.length > 0);
    fill(element, stage, tools, strip, facts);
    d.onKey("z", "Picture in full screen", () => (stage.offsetParent || document.fullscreenElement === stage ? fullScreen() : false));

    /* Which pictures: those being attached, else those of the newest turn that had any. */
    function current() {
      const ready = d.state.attached.filter((i) => i.url);
      if (ready.length) return { images: ready, turn: null };
      const turns = d.turnsOfPage();
      for (let i = turns.length - 1; i >= 0; i--) if (turns[i].images.length) return { images: turns[i].images, turn: turns[i].id };
      return { images: [], turn: null };
    }
    function tokenLine(turnId) {
      const counts = d.visibleColumns().map((c) => c.value.turns.find((t) => t.id === turnId)).filter(Boolean)
        .map((t) => t.answers[d.pickedIndex(t)]?.image_tokens).filter((n) => n !== null && n !== undefined);
      const alike = counts.length > 1 && counts.every((n) => n === counts[0]);
      return alike ? `${counts[0]} image tokens in every column` : counts.length ? `${counts.join(" · ")} image tokens` : "";
    }
    function draw() {
      const now = current();
      images = now.images;
      shown = Math.min(shown, Math.max(images.length - 1, 0));
      const image = images[shown];
      stage.classList.toggle("dt-has-picture", !!image);
      tools.hidden = !image;
      if (!image) { picture.removeAttribute("src"); fill(strip); fill(facts); return; }
      if (picture.getAttribute("src") !== image.url) { picture.src = image.url; picture.alt = image.name; fit(); }
      fill(strip, images.length > 1 ? images.map((other, index) => el("button", { type: "button", class: index === shown ? "dt-on" : "",
        "aria-label": `Picture ${index + 1}: ${other.name}`, onclick: () => { shown = index; draw(); } }, el("img", { src: other.url, alt: "" }))) : []);
      const same = now.turn && d.visibleColumns().length > 1;
      fill(facts, el("div", {}, `${image.name} · ${image.width} × ${image.height} · ${shown + 1} of ${images.length}`),
        el("div", {}, el("span", { title: image.sha256 }, `sha256 ${image.sha256.slice(0, 6)}…${image.sha256.slice(-4)}`),
          same ? [" · ", el("span", { class: "dt-ok" }, "same bytes to every column")] : null),
        el("div", {}, now.turn ? tokenLine(now.turn) : ""), image.notes.map((note) => el("div", { class: "dt-note" }, note)));
    }
    d.subscribe(draw);
  };

  /* ---- under the columns: what the turn is worth knowing, and where to keep it ---- */
  window.diptych.notices = function (element, props, trigger, watch) {
    let drawn = "";
    function draw() {
      const value = { ...props.value };
      if (value.turn && value.turn === d.state.left) Object.assign(value, { turn: null, alarms: [] });
      const wanted = JSON.stringify(value);
      if (wanted === drawn) return; // comes along with every update of an answer; a link under the pointer stays
      drawn = wanted;
      if (value.refused && value.refused.at !== element.dataset.refused) {
        element.dataset.refused = value.refused.at;
        window.dispatchEvent(new CustomEvent("diptych:refused", { detail: value.refused }));
      }
      const links = value.turn ? el("p", { class: "dt-turn-links" },
        link("Copy link", () => d.copyText(new URL(`?trace=${value.turn}`, window.location.href).href)),
        el("a", { href: `traces/${value.turn}.json`, download: "" }, "JSON"), el("a", { href: `traces/${value.turn}.md`, download: "" }, "Markdown"),
        d.recorded ? null : el("button", { class: "dt-link", type: "button", title: "Quantize again, calibrated with the turns of this conversation", onclick: () => d.requantize(d.turnsOfPage().map((turn) => turn.id)) }, "Re-quantize with these")) : null;
      fill(element, (value.alarms || []).map((alarm) => el("p", { class: `dt-alarm dt-alarm-${alarm.severity}`, role: "alert" }, alarm.message)), links);
    }
    d.bind(props, watch, draw);
    d.subscribe(draw);
  };

  /* ---- the history: every turn is a record with an address ---- */
  window.diptych.recent = function (element, props, trigger, watch) {
    d.bind(props, watch, (value) => {
      const items = value.items || [];
      fill(element, items.length ? el("h3", {}, d.recorded ? "Recorded turns" : "History") : null, el("ol", { class: "dt-recent" }, items.map((item) =>
        el("li", {}, el("button", { type: "button", title: item.title, onclick: () => { Object.assign(d.state, { selected: {}, attached: [], left: null }); trigger("open", { turn: item.id }); } },
          el("span", {}, item.prompt), el("time", {}, item.when))))));
    });
  };

  window.diptych.status = function (element, props, trigger, watch) {
    d.bind(props, watch, (value) => {
      fill(element, el("span", { class: "dt-status" }, value.text || ""), value.person ? me(value) : value.sign_in ? el("span", { class: "dt-who-corner" }, d.signInLink(value)) : null);
      d.met(value);
    });
    function me(value) {
      return el("span", { class: "dt-who-corner" }, value.person, value.owner ? el("span", { class: "dt-soft" }, " (owner)") : null,
        value.may_leave ? el("button", { class: "dt-link", type: "button", onclick: leave }, "Sign out") : null);
    }
    async function leave() {
      const answer = await fetch("signout", { method: "POST" });
      if (answer.ok) window.location.reload(); else d.toast("Signing out did not work");
    }
  };
})();
