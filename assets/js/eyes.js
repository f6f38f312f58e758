/* "Is it the eyes or the words?" in the divergence card: how much likelier each token is with the picture than with it
   changed, under both models. Value from Python (compare/eyes_view.py eyes_page); every text only ever becomes textContent. */
(function () {
  "use strict";
  const d = window.diptych;
  const { el, fill, steps } = d;
  const CHANGES = { removed: "Remove", blurred: "Blur", small: "Scale down", swapped: "Swap" };
  const WORDS = { removed: "removed", blurred: "blurred", small: "scaled down and back", swapped: "swapped for another" };
  const nats = (v) => (Math.abs(v) < 0.005 ? 0 : v).toFixed(2);
  const signed = (v) => (v >= 0.005 ? "+" : "") + nats(v);

  /** Heat modes; a token has ``e`` once the shown change was measured. */
  d.eyesModes = {
    picture: { name: "Picture", level: (t) => (t.e ? (t.e.own <= t.e.floor ? 0 : steps(t.e.own, [0.05, 0.69, 2, 4])) : null), value: (t) => (t.e ? Math.max(t.e.own, 0) : null) },
    eyes: { name: "Picture, change", level: (t) => (t.e ? (Math.abs(t.e.change) <= t.e.changeFloor ? 0 : steps(Math.abs(t.e.change), [0.05, 0.3, 1, 3])) : null), value: (t) => (t.e ? Math.abs(t.e.change) : null) },
  };

  /** One card's part. measure(picture, again) asks Python, jump(index) selects a token, repaint() colours anew. */
  d.eyes = function ({ measure, jump, repaint, inLine }) {
    const box = el("section", { class: "dt-eyes", "aria-label": "Picture reliance" });
    let value = {}, shown = null;

    /** Take a card's value; the newest asked change is shown, else one that is stored. */
    function attach(card) {
      value = card;
      const eyes = card.eyes || { results: {} };
      const known = Object.keys(CHANGES).filter((name) => eyes.results[name]);
      shown = eyes.asked || (known.includes(shown) ? shown : known[0]) || null;
      mark();
      draw();
      return box;
    }
    function result() { return (value.eyes && shown && value.eyes.results[shown]) || null; }
    function mark() {
      const found = result(), side = value.path_of === "candidate" ? "candidate" : "base";
      (value.tokens || []).forEach((token, i) => {
        token.e = found && {
          base: found.base[i], candidate: found.candidate[i], change: found.candidate[i] - found.base[i], own: found[side][i], instead: found.instead[i],
          floor: found.floors ? found.floors[side === "base" ? 0 : 1] : Infinity, changeFloor: found.floors ? found.floors[2] : Infinity,
        };
      });
    }
    function choose(name) {
      if (value.eyes && value.eyes.results[name] && shown !== name) { shown = name; mark(); draw(); repaint(); } else measure(name, !!(value.eyes && value.eyes.results[name]));
    }
    function draw() { d.keepFocus(box, redraw); }
    function redraw() {
      const eyes = value.eyes || { results: {} };
      const buttons = Object.entries(CHANGES).map(([name, words]) => el("button", { type: "button", class: "dt-link", "aria-pressed": String(shown === name && !!result()), "data-picture": name, "aria-disabled": eyes.busy && "true", onclick: () => eyes.busy || choose(name) }, words));
      if (d.recorded) { fill(box, result() ? told(result()) : ""); return; }
      fill(box, el("p", { class: "dt-eyes-ask" }, el("b", {}, "Is it the eyes or the words?"), el("span", { class: "dt-soft" }, " Score the answer again with the picture changed: "), el("span", { class: "dt-switch" }, buttons)),
        eyes.busy ? el("p", { class: "dt-soft dt-pulse" }, `Scoring the same tokens with the picture ${WORDS[eyes.asked]}`) : "",
        eyes.refused ? el("p", {}, eyes.refused.message, " ", el("span", { class: "dt-soft" }, eyes.refused.hint || "")) : "",
        !eyes.busy && result() ? told(result()) : "");
    }
    function told(found) {
      const side = value.path_of === "candidate" ? "candidate" : "base", count = value.tokens.length;
      const none = value.method !== "exact" ? "Which part of the divergence lies on them needs an exact score."
        : value.floor === null ? "Which part of the divergence lies on them is not known, since its noise floor is not."
        : "There is no divergence above the noise to lie on them.";
      const lies = found.share === null ? none : `${found.share} of the divergence above the noise lies on them.`;
      return [
        el("p", { class: "dt-soft" }, el("span", { class: "dt-key" }, ["0", "1", "2", "3", "4"].map((n) => el("i", { class: `dt-l${n}` }))),
          ` Picture: tokens the answer took from the picture, by how much likelier the ${side} finds them with it than with it ${WORDS[shown]}. Grey: not above the noise. Picture, change: how far the candidate's reliance is from the base's.`),
        el("p", { class: "dt-stats" }, found.figures.join(" · ")),
        el("p", {}, `${found.leaning.length} of ${count} tokens are taken from the picture: it makes them at least twice as likely for base or candidate. ${lies}`),
        el("p", { class: "dt-most" }, found.most.length ? ["Reliance changed most at ", found.most.map((i, at) => [at ? "; " : "", el("button", { type: "button", class: "dt-link", onclick: () => jump(i) }, el("code", {}, inLine(value.tokens[i].t)), ` token ${i + 1}`),
          ` base ${nats(found.base[i])} → candidate ${nats(found.candidate[i])} nats`]), "."] : found.floors ? "No token's reliance changed by more than the noise and 0.05 nats." : "The noise could not be measured, so no change is named."),
        el("p", { class: "dt-soft dt-shown" }, "Shown instead: ", found.pictures.map(([name, words, sha]) => el("span", {}, sha ? el("a", { href: `media/${sha}.png`, target: "_blank", rel: "noopener" }, el("img", { src: `media/${sha}.png`, alt: words, width: "44" })) : "", ` ${name}: ${words} `))),
        shown === "removed" ? el("p", { class: "dt-soft" }, "Removed means the same text asked without a picture: its places are taken out of the prompt.") : "",
      ];
    }
    /** About one token, for the side panel. */
    function about(token) {
      if (!token.e) return "";
      const { base, candidate, change, changeFloor, instead } = token.e;
      const says = (name, other) => other ? [` With it ${WORDS[shown]} the ${name} would say `, el("code", {}, inLine(other[0])), ` ${other[1].toFixed(2)}.`] : "";
      return el("p", { class: "dt-soft dt-eyes-token" }, `Picture: base ${signed(base)}, candidate ${signed(candidate)} nats; change ${Math.abs(change) <= changeFloor ? "within the noise" : signed(change)}.`, says("base", instead[0]), says("candidate", instead[1]));
    }
    return { attach, about };
  };
})();
