/* The report and the list of items of a batch. They name the models, so nothing of them is in the page while a person
   judges. Value from Python: components/review/report.py and view_model.py. */
(function () {
  "use strict";
  const d = window.diptych;
  const { el, fill } = d;
  const review = d.review;

  const FEWEST = 10; // items below which a curve says nothing
  const percent = (v) => `${(100 * v).toFixed(1)} %`;
  const whole = (text) => el("span", { class: "dt-whole" }, text);
  const bounds = (s) => `[${(100 * s.low).toFixed(1)}, ${(100 * s.high).toFixed(1)}]`;
  /** A share as nodes that break between its parts only. */
  const share = (s) => (s ? [whole(percent(s.value)), " ", whole(`${bounds(s)} ·`), " ", whole(`${s.hits} of ${s.of}`)] : "not measured");
  const figure = (v, missing) => (v === null ? `not defined (${missing})` : v.toFixed(2));
  const chance = (p) => (p === null ? "no item changed" : `p = ${p.toPrecision(3)}`);

  window.diptych.reviewReport = function (element, props, trigger, watch) {
    let page = 0, filter = {}, asked = 0;
    d.bind(props, watch, (value) => {
      if ((value.items && value.asked !== asked) || (value.report && value.report.batch !== review.batch)) return; // of an earlier wish
      if (review.mode === "report" && (value.report || value.refused)) report(value);
      if (review.mode === "items" && (value.items || value.refused)) items(value);
    });
    review.listeners.push((what) => {
      if (review.mode === "judge") { fill(element); return; }
      if (what === "mode" && review.find) { filter = review.find; review.find = null; page = 0; finder = null; }
      if (what === "batch") page = 0;
      if (what === "mode" || what === "batch") ask();
    });
    function ask() {
      fill(element, el("p", { class: "dt-pulse" }, "Reading…"));
      if (review.mode === "report") trigger("report", { batch: review.batch, reviewer: review.reviewer });
      else look();
    }
    function look() { asked += 1; trigger("items", { batch: review.batch, page, filter, asked }); }
    const refusal = (refused) => el("p", { class: "dt-fault", role: "alert" }, refused.message, ` ${refused.hint || ""}`);
    const table = (head, rows) => el("table", { class: "dt-table" }, el("thead", {}, el("tr", {}, head.map((h) => el("th", { scope: "col" }, h)))), el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell, i) => el(i ? "td" : "th", i ? {} : { scope: "row" }, cell))))));

    function report(value) {
      if (value.refused) { fill(element, refusal(value.refused)); return; }
      const r = value.report, o = r.outcomes, e = r.estimate, a = r.agreement;
      fill(element, el("header", { class: "dt-review-head" }, el("h2", {}, `Report: ${r.name}`), el("span", { class: "dt-head-actions" }, exports(r), requantize(r))),
        el("p", { class: "dt-soft" }, `${r.base_engine} against ${r.candidate_engines.join(", ")} · ${r.judged} of ${r.answered} items judged${r.items > r.answered ? `, ${r.items - r.answered} without answers` : ""} · ${r.reviewers.length} reviewer${r.reviewers.length === 1 ? "" : "s"}`, r.seconds_per_item !== null ? ` · ${r.seconds_per_item.toFixed(0)} s an item (median)` : ""),
        r.judged ? [
          table(["Outcome", "Items", "Share of judged items, 95 % interval"], Object.entries(o.counts).map(([name, count]) => [review.OUTCOMES[name], String(count), share(o.shares[name])])),
          el("p", {}, `Regressed against improved, sign test: ${chance(o.sign_test_p)}. Most judged items were chosen by divergence, so these are no shares of the whole batch.`),
          el("p", {}, e.regressed ? [`Of the whole batch, by the random slice (${e.judged} of ${e.slice} judged): regressed `, share(e.regressed), ", improved ", share(e.improved), "."] : `How often the candidate regresses in the whole batch is not known: nothing of the random slice (${e.slice} item${e.slice === 1 ? "" : "s"}) is judged yet.`),
        ] : el("p", {}, "No verdict yet."),
        r.reference ? [el("h3", {}, "By the reference answers, without a reviewer"), table(["", "Share"], [["Base right", share(r.reference.base_right)], ["Candidate right", share(r.reference.candidate_right)], ["Regressed", share(r.reference.regressed)], ["Improved", share(r.reference.improved)]]), el("p", { class: "dt-soft" }, `Right means: the same but for case and spaces. Sign test: ${chance(r.reference.sign_test_p)}.`)] : null,
        curves(r), groups("By tag", r.by_tag), r.candidate_engines.length > 1 ? groups("By candidate", r.by_candidate) : null,
        r.by_error_type.length ? [el("h3", {}, "Claimed errors"), table(["Kind", "Items, candidate", "Items, base"], r.by_error_type.map((row) => [review.words(row.name), String(row.candidate), String(row.base)]))] : null,
        el("h3", {}, "Agreement"), el("p", {}, `With themselves, on ${a.repeats} repeats with swapped sides: kappa ${figure(a.self_kappa, a.self_kappa_missing)}. With each other, on ${a.shared_items} items: Krippendorff's alpha ${figure(a.krippendorff_alpha, a.krippendorff_alpha_missing)}.`),
        a.conflicts ? el("p", {}, `They differ on ${a.conflicts} of these: ${a.conflicts_settled} settled by a third reviewer${a.conflicts_settled < a.conflicts ? `, ${a.conflicts - a.conflicts_settled} still open; the order “Conflicts of others” brings them` : ""}.`) : null,
        a.pairs.length ? table(["Reviewers", "Items", "Cohen's kappa"], a.pairs.map((p) => [p.reviewers.join(" and "), String(p.items), figure(p.cohen_kappa, p.cohen_kappa_missing)])) : null,
        r.worst.length ? [el("h3", {}, "Regressed, most divergent first"), el("div", { class: "dt-gallery" }, r.worst.map(worst))] : null);
    }
    function groups(title, rows) {
      return rows.length ? [el("h3", {}, title), table(["", "Judged", "Regressed", "Improved", "Sign test"], rows.map((row) => [row.name, String(row.judged), share(row.regressed), share(row.improved), chance(row.sign_test_p)]))] : null;
    }
    function exports(r) {
      const only = review.isOwner || review.user ? "" : `?reviewer=${encodeURIComponent(review.reviewer)}`;
      return ["csv", "jsonl", "parquet", "html", "markdown"].map((kind) => el("a", { class: "dt-btn dt-small", href: `review/export/${encodeURIComponent(r.batch)}.${kind}${only}`, download: "" }, { csv: "CSV", jsonl: "JSONL", parquet: "Parquet", html: "HTML", markdown: "Table for the card" }[kind]));
    }
    function requantize(r) {
      return review.isOwner && r.regressed_turns.length && !d.recorded ? el("button", { class: "dt-btn dt-small", type: "button", title: `Quantize again, calibrated with the ${r.regressed_turns.length} regressed turns`, onclick: () => d.requantize(r.regressed_turns) }, "Re-quantize with these") : null;
    }
    function curves(r) {
      const curve = r.curve && r.curve.items >= FEWEST ? r.curve : r.curve_by_reference;
      if (!curve || curve.items < FEWEST) return r.divergence_mass ? el("p", {}, `The most divergent ${percent(r.divergence_mass.share_of_items)} of the items hold 90 % of the divergence.`) : null;
      const source = curve === r.curve ? "of the judged items" : "by the reference answers";
      return [el("h3", {}, "Does the order find the regressions?"), drawing(curve), el("p", {}, `Share of ${curve.regressions} regressions found against share of ${curve.items} items reviewed, most divergent first, ${source}. The first third finds ${percent(curve.found_in_first_third)}; 90 % are found after ${percent(curve.reviewed_for_90_percent)}. Dashed: a random order, and the end of the first third.`,
        source === "by the reference answers" && r.curve_of_disagreement_by_reference ? ` In the order of different answers the first third finds ${percent(r.curve_of_disagreement_by_reference.found_in_first_third)}.` : "",
        r.divergence_mass ? ` The most divergent ${percent(r.divergence_mass.share_of_items)} of the items hold 90 % of the divergence.` : "")];
    }
    function drawing(curve) {
      const node = (tag, attributes) => { const made = document.createElementNS("http://www.w3.org/2000/svg", tag); for (const [k, v] of Object.entries(attributes)) made.setAttribute(k, v); return made; };
      const svg = node("svg", { viewBox: "0 0 300 160", class: "dt-coverage", role: "img", "aria-label": `Coverage: ${percent(curve.found_in_first_third)} of the regressions in the first third` });
      svg.append(node("line", { x1: 0, y1: 160, x2: 300, y2: 0, class: "dt-chance" }), node("line", { x1: 100, y1: 0, x2: 100, y2: 160, class: "dt-third" }), node("polyline", { points: curve.points.map(([x, y]) => `${300 * x},${160 - 160 * y}`).join(" "), fill: "none" }));
      return svg;
    }
    function worst(row) {
      return el("article", { class: "dt-card dt-worst" }, row.images.map((sha) => el("img", { src: `media/${sha}.png`, alt: "", loading: "lazy" })), el("p", {}, el("b", {}, row.prompt)),
        el("p", { class: "dt-only-base" }, row.base_text), el("p", { class: "dt-only-cand" }, row.candidate_text), row.reference !== null ? el("p", { class: "dt-soft" }, `Right: ${row.reference}`) : null,
        row.claims.map((c) => el("p", { class: "dt-soft" }, `${c.side}: ${review.words(c.error_type)}, ${c.severity}`, c.text ? ` “${c.text}”` : "", c.reviewers > 1 ? `, by ${c.reviewers} reviewers` : "")), row.notes.map((n) => el("p", {}, n)),
        el("p", { class: "dt-soft" }, row.divergence_nats === null ? "divergence not measured" : `${row.divergence_nats.toPrecision(3)} nats`, " · ", el("a", { href: `?trace=${encodeURIComponent(row.trace_id)}` }, "Open in Compare")));
    }

    /* ---- items ---- */
    /* The controls stay as they are while answers come: what somebody is typing must not be taken away. */
    let finder = null, count = null, results = null;
    function finding() {
      const outcome = el("select", { "aria-label": "Outcome" }, [["", "All"], ...Object.entries(review.OUTCOMES)].map(([v, label]) => el("option", { value: v }, label)));
      const text = el("input", { type: "search", class: "dt-find", placeholder: "Search", "aria-label": "Search the items", value: filter.text || "" });
      const tag = el("input", { type: "search", class: "dt-find", placeholder: "Tag", "aria-label": "Tag", value: filter.tag || "" });
      const nats = (label, name) => el("input", { type: "number", class: "dt-find dt-find-number", min: "0", step: "any", placeholder: label, "aria-label": label, value: filter[name] || "" });
      const least = nats("Nats from", "min_nats"), most = nats("to", "max_nats");
      const differ = el("input", { type: "checkbox", checked: !!filter.different_only });
      outcome.value = filter.outcome || "";
      const change = () => { page = 0; filter = { outcome: outcome.value, text: text.value.trim(), tag: tag.value.trim(), min_nats: least.value, max_nats: most.value, different_only: differ.checked }; look(); };
      for (const control of [outcome, text, tag, least, most, differ]) control.addEventListener("change", change);
      count = el("span", { class: "dt-soft" });
      return el("div", { class: "dt-find-line" }, outcome, text, tag, least, most, el("label", { class: "dt-check-line" }, differ, " Only different answers"), count);
    }
    function items(value) {
      if (value.refused) { fill(element, refusal(value.refused)); return; }
      if (!finder || finder.parentNode !== element) fill(element, finder = finding(), results = el("div"));
      count.textContent = `${value.total} item${value.total === 1 ? "" : "s"}`;
      const pages = Math.max(1, Math.ceil(value.total / value.page_size));
      const turn = (to) => { page = to; look(); };
      fill(results,
        el("div", { class: "dt-items" }, table(["Item", "Prompt", "Outcome", "Divergence, nats", "Answers"], value.items.map((i) => [i.key, i.failure ? [i.prompt, el("p", { class: "dt-fault" }, i.failure)] : i.prompt, i.failure ? review.OUTCOMES.failed : i.outcome ? review.OUTCOMES[i.outcome] : i.state === "PENDING" ? "being answered" : "–", i.divergence_nats === null ? "not measured" : i.divergence_nats.toPrecision(3), i.state !== "DONE" ? "" : i.differ ? "differ" : "same"]))),
        pages > 1 ? el("p", { class: "dt-form-actions" }, el("button", { class: "dt-btn dt-small", type: "button", disabled: value.page === 0, onclick: () => turn(value.page - 1) }, "Before"), `${value.page + 1} of ${pages}`, el("button", { class: "dt-btn dt-small", type: "button", disabled: value.page + 1 >= pages, onclick: () => turn(value.page + 1) }, "After")) : null);
    }
  };
})();
