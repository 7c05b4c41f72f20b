// One card: the source picture, the video, the state, and what is known of the job.

import { failureOf } from "./actions.js";
import { picture, playerUrl, runPath, taskPath } from "./api.js";
import { button, copyButton, fill, h, icon } from "./dom.js";
import { begun, bytes, clock, cost, firstLine, span } from "./format.js";
import { Preview, screen } from "./player.js";
import { canRunAgain, isRunning, stateOf } from "./states.js";

let count = 0;

/** What a section shows; it is drawn again only if one of these values has changed. */
const SHOWN = {
  media: ["name", "state", "source", "poster", "player", "player_note"],
  failure: [
    ...["name", "state", "error", "action", "can_edit", "can_trigger", "kling_task_id", "tasks"],
    "estimated_cost_usd",
  ],
  body: [
    ...["name", "prompt", "model", "inputs", "duration_seconds", "sound", "media", "size", "state"],
    ...["estimated_cost_usd", "cost_usd", "billed", "earlier_cost_usd", "submitted_at", "started_at", "queued_seconds"],
    ...["rendered_seconds", "download_seconds", "downloaded_at", "kling_task_id", "path", "tasks"],
  ],
  footer: ["name", "state", "player", "can_trigger", "tasks"],
};

export class Card {
  /** @param gallery the element <kling-videos>. */
  constructor(gallery, data) {
    this.gallery = gallery;
    this.titleId = `title-${(count += 1)}`;
    this.sections = Object.fromEntries(
      Object.keys(SHOWN).map((name) => [name, h("div", { className: name })]),
    );
    this.percent = h("span", { className: "percent" });
    this.bar = h("i");
    this.progress = h("div", { role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100 }, this.bar);
    this.expected = h("span");
    this.seen = h("span");
    this.live = h(
      "div",
      { className: "live", hidden: true },
      this.progress,
      h("p", {}, this.expected, this.seen),
    );
    const { media, failure, body, footer } = this.sections;
    this.element = h(
      "article",
      { className: "card", tabindex: -1, "aria-labelledby": this.titleId },
      ...[media, this.live, failure, body, footer],
    );
    this.update(data);
  }

  update(data) {
    const before = this.data ?? {};
    // Polls leave the pictures out.
    this.data = { ...data, source: data.source ?? before.source, poster: data.poster ?? before.poster };
    this.element.dataset.state = data.state;
    this.element.dataset.tone = stateOf(data).tone;
    const focused = this.element.getRootNode().activeElement;
    for (const [name, keys] of Object.entries(SHOWN)) {
      if (keys.every((key) => JSON.stringify(before[key]) === JSON.stringify(this.data[key]))) continue;
      const section = this.sections[name];
      const hadFocus = focused && section.contains(focused);
      fill(section, this[name]());
      section.hidden = section.childElementCount === 0;
      if (hadFocus) this.element.focus({ preventScroll: true });
    }
    this.tick();
  }

  /** Show percent, expected end and age. Called each second, and at each update. */
  tick() {
    const { data } = this;
    this.live.hidden = !isRunning(data);
    if (this.live.hidden) return;
    const now = this.gallery.now();
    // What the gateway has said of the rendering says nothing about the download.
    const renders = data.state !== "downloading";
    const known = renders && typeof data.percent === "number";
    const percent = known ? Math.min(100, Math.max(0, Math.round(data.percent))) : null;
    this.percent.textContent = known ? `${percent} %` : "";
    this.progress.setAttribute("aria-label", `${data.name}: ${stateOf(data).label}`);
    this.progress.classList.toggle("unknown", !known);
    if (known) this.progress.setAttribute("aria-valuenow", percent);
    else this.progress.removeAttribute("aria-valuenow");
    this.bar.style.setProperty("--share", known ? percent / 100 : 0.3);
    this.expected.textContent = renders ? expectation(data.eta_at, now) : "";
    this.seen.textContent = renders && data.seen_at ? `seen ${span(now - data.seen_at)} ago` : "";
  }

  media() {
    const { data } = this;
    const source = picture(data.source);
    return [
      source && h("div", { className: "pane source" }, shown(source, `Picture of ${data.name}`)),
      this.video(source),
      h("span", { className: "badge" }, h("i"), stateOf(data).label),
    ];
  }

  video(source) {
    const { data } = this;
    if (isRunning(data)) {
      return h(
        "div",
        { className: "pane busy" },
        source && h("img", { className: "blurred", src: source, alt: "" }),
        h("span", { className: "sweep" }),
        this.percent,
        h("span", { className: "doing" }, stateOf(data).label),
      );
    }
    const poster = picture(data.poster);
    if (data.state === "made" || data.state === "reused" || poster || playerUrl(data)) {
      return this.player(poster);
    }
    const name = { uncertain: "question", gone: "trash" }[data.state] ?? "alert";
    return h(
      "div",
      { className: "pane none" },
      source && h("img", { className: "blurred", src: source, alt: "" }),
      icon(name),
    );
  }

  player(poster) {
    const { data } = this;
    const url = playerUrl(data);
    if (this.gallery.context.task_id) return h("div", { className: "pane video stage" }, screen(data));
    const pane = h(
      "div",
      { className: "pane video" },
      poster
        ? shown(poster, `First frame of ${data.name}`)
        : h("span", { className: "no-poster" }, icon("film")),
      h(
        "button",
        {
          type: "button",
          className: "open",
          "aria-label": `${url ? "Play" : "Show"} ${data.name}`,
          onclick: () => (preview?.onTap() ? null : this.gallery.open(this)),
        },
        url ? h("span", { className: "disc" }, icon("play")) : null,
      ),
      !url && data.player_note ? h("p", { className: "note" }, data.player_note) : null,
      url
        ? button({ label: `Show ${data.name} large`, name: "expand", kind: "bare large" }, () =>
            this.gallery.open(this),
          )
        : null,
    );
    const preview = url ? new Preview(pane, url) : null;
    return pane;
  }

  failure() {
    return failureOf(this.gallery, this);
  }

  body() {
    const { data } = this;
    const price = cost(data);
    const { width, height } = data.media ?? {};
    const times = [
      ["queued", data.queued_seconds],
      ["rendered", data.rendered_seconds],
      ["downloaded", data.download_seconds],
    ].filter(([, seconds]) => seconds !== null && seconds !== undefined);
    return [
      h(
        "div",
        { className: "title" },
        h("h2", { id: this.titleId, title: data.name }, data.name),
        h("span", { className: "cost", title: price.title }, price.text),
      ),
      data.earlier_cost_usd
        ? h(
            "p",
            { className: "earlier" },
            `and ${cost({ cost_usd: data.earlier_cost_usd }).text} for a video before a clear`,
          )
        : null,
      data.prompt ? promptOf(data.prompt) : null,
      h(
        "ul",
        { className: "facts" },
        data.model && h("li", {}, data.model),
        data.duration_seconds ? h("li", {}, `${data.duration_seconds} s`) : null,
        typeof data.sound === "boolean"
          ? h("li", {}, icon(data.sound ? "sound" : "mute"), data.sound ? "sound" : "no sound")
          : null,
        width && height ? h("li", {}, `${width} × ${height}`) : null,
        data.size ? h("li", {}, bytes(data.size)) : null,
      ),
      h(
        "p",
        { className: "times" },
        [begun(data), ...times.map(([word, seconds]) => `${word} ${span(seconds)}`)]
          .filter(Boolean)
          .flatMap((text, index) => [index ? " · " : null, h("span", {}, text)]),
      ),
      h(
        "dl",
        { className: "ids" },
        copyRow("Job", data.kling_task_id, "the job id"),
        copyRow("File", data.path, "the path"),
      ),
      this.trail(),
    ];
  }

  /** The way to the Dag run and to the log of each task. */
  trail() {
    const { data, gallery } = this;
    const tasks = Object.entries(data.tasks ?? {}).filter(([, task]) => task);
    const unique = tasks.filter(
      ([, task], index) => tasks.findIndex(([, other]) => other.task_id === task.task_id) === index,
    );
    return h(
      "nav",
      { className: "trail", "aria-label": `Tasks of ${data.name}` },
      // Airflow may have forgotten the run; then only the file is left.
      tasks.length
        ? gallery.link(
            runPath(data.dag_id, data.run_id),
            { className: "run", title: `Dag run ${data.run_id}` },
            data.dag_id,
          )
        : h("span", { className: "run quiet" }, data.dag_id),
      h(
        "span",
        { className: "tasks" },
        unique.map(([, task]) =>
          gallery.link(
            taskPath(data, task),
            {
              className: "task",
              "data-task-state": task.state ?? "none",
              title: `Log of ${task.task_id}: ${task.state ?? "not started"}, try ${task.try_number ?? 0}`,
            },
            h("i"),
            task.task_id.split(".").at(-1),
          ),
        ),
      ),
    );
  }

  footer() {
    const { data, gallery } = this;
    const url = playerUrl(data, true);
    const chosen = gallery.isChosen(this);
    return [
      url &&
        h(
          "a",
          { className: "button", href: url, download: true, "aria-label": `Download ${data.name}` },
          icon("download"),
          h("span", {}, "Download"),
        ),
      canRunAgain(data)
        ? button(
            { label: `Again with changes: ${data.name}`, text: "Again with changes", name: "again" },
            () => gallery.again(this),
          )
        : null,
      (url || picture(data.poster)) && !gallery.context.task_id
        ? button(
            {
              label: `Compare ${data.name}`,
              name: "columns",
              kind: "bare compare",
              "aria-pressed": String(chosen),
            },
            () => gallery.choose(this),
          )
        : null,
    ];
  }

  showChosen(chosen) {
    this.element.classList.toggle("chosen", chosen);
    this.sections.footer.querySelector(".compare")?.setAttribute("aria-pressed", String(chosen));
  }
}

/** A picture of any shape, in front of its own blurred colours. */
function shown(src, alt) {
  return [
    h("img", { className: "blurred", src, alt: "", decoding: "async" }),
    h("img", { className: "sharp", src, alt, decoding: "async" }),
  ];
}

export function promptOf(prompt, { open = false } = {}) {
  const text = h("span", {}, open ? prompt : firstLine(prompt));
  const toggle = h(
    "button",
    {
      type: "button",
      className: "prompt-text",
      "aria-expanded": String(open),
      "aria-label": `Prompt: ${firstLine(prompt)}`,
      title: "Show the whole prompt",
      onclick: () => {
        const opens = toggle.getAttribute("aria-expanded") === "false";
        toggle.setAttribute("aria-expanded", String(opens));
        text.textContent = opens ? prompt : firstLine(prompt);
      },
    },
    text,
  );
  return h("div", { className: "prompt" }, toggle, copyButton(prompt, "the prompt"));
}

export function copyRow(label, text, what) {
  if (!text) return null;
  return h(
    "div",
    {},
    h("dt", {}, label),
    h("dd", {}, h("code", { title: text }, h("bdi", {}, text)), copyButton(text, what)),
  );
}

function expectation(at, now) {
  if (!at) return "";
  const left = at - now;
  return left > 1 ? `expected ${clock(at)}, in ${span(left)}` : "expected any moment";
}
