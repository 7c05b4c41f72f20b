// Large views: one video, and two side by side.

import { picture, playerUrl } from "./api.js";
import { copyRow, promptOf } from "./card.js";
import { button, dialogHead, fill, h, icon, openDialog } from "./dom.js";
import { begun, bytes, cost, span } from "./format.js";
import { screen } from "./player.js";
import { canRunAgain, stateOf } from "./states.js";

/** Show one card large; the arrow keys go to the ones before and after. */
export function openViewer(gallery, card) {
  const stage = h("div", { className: "stage" });
  const side = h("div", { className: "side" });
  const title = h("h2");
  const place = h("span", { className: "quiet" });
  const move = (step) => {
    const cards = gallery.visibleCards();
    const next = cards[cards.indexOf(card) + step];
    if (next) show(next);
  };
  const earlier = button({ label: "The one before", name: "left", kind: "bare" }, () => move(-1));
  const later = button({ label: "The next one", name: "right", kind: "bare" }, () => move(1));
  const dialog = openDialog(
    gallery.overlay,
    { label: "Video", className: "large" },
    h(
      "header",
      { className: "dialog-head" },
      title,
      place,
      earlier,
      later,
      button({ label: "Close", name: "close", kind: "bare" }, () => dialog.close()),
    ),
    h("div", { className: "viewer" }, stage, side),
  );
  dialog.addEventListener("keydown", (event) => {
    // In the player, the arrow keys seek.
    if (event.target.closest("video, input, textarea")) return;
    if (event.key === "ArrowLeft") move(-1);
    if (event.key === "ArrowRight") move(1);
  });
  dialog.addEventListener("close", () => card.element.querySelector(".open")?.focus());

  function show(next) {
    card = next;
    const { data } = card;
    const cards = gallery.visibleCards();
    const index = cards.indexOf(card);
    title.textContent = data.name;
    place.textContent = cards.length > 1 ? `${index + 1} of ${cards.length}` : "";
    earlier.hidden = later.hidden = cards.length < 2;
    // A disabled button would lose the focus, and with it the arrow keys.
    earlier.setAttribute("aria-disabled", String(index <= 0));
    later.setAttribute("aria-disabled", String(index >= cards.length - 1));
    fill(stage, screen(data, { autoplay: true }));
    fill(side, sideOf(gallery, card));
  }
  show(card);
}

function sideOf(gallery, card) {
  const { data } = card;
  const source = picture(data.source);
  const download = playerUrl(data, true);
  return [
    source && h("img", { className: "side-source", src: source, alt: `Picture of ${data.name}` }),
    data.prompt && promptOf(data.prompt, { open: true }),
    h(
      "dl",
      { className: "pairs" },
      facts(data).map(([word, text]) => h("div", {}, h("dt", {}, word), h("dd", {}, text))),
    ),
    h(
      "dl",
      { className: "ids" },
      copyRow("Job", data.kling_task_id, "the job id"),
      copyRow("File", data.path, "the path"),
    ),
    h(
      "div",
      { className: "footer" },
      download &&
        h(
          "a",
          { className: "button", href: download, download: true },
          icon("download"),
          h("span", {}, "Download"),
        ),
      canRunAgain(data)
        ? button({ label: "Again with changes", text: "Again with changes", name: "again" }, () =>
            gallery.again(card),
          )
        : null,
    ),
  ];
}

function facts(data) {
  const { width, height, frames_per_second: fps } = data.media ?? {};
  const has = (value) => value !== null && value !== undefined && value !== "";
  return [
    ["State", stateOf(data).label],
    ["Model", data.model],
    ["Length", has(data.duration_seconds) ? `${data.duration_seconds} s` : null],
    ["Sound", typeof data.sound === "boolean" ? (data.sound ? "yes" : "no") : null],
    [
      "Picture",
      width && height ? `${width} × ${height}${fps ? `, ${Math.round(fps)} per second` : ""}` : null,
    ],
    ["Size", has(data.size) ? bytes(data.size) : null],
    ["Cost", cost(data).text],
    ["Begun", begun(data)],
    ["Queued", has(data.queued_seconds) ? span(data.queued_seconds) : null],
    ["Rendered", has(data.rendered_seconds) ? span(data.rendered_seconds) : null],
    ["Downloaded", has(data.download_seconds) ? `in ${span(data.download_seconds)}` : null],
  ].filter(([, text]) => has(text));
}

/** Show two cards side by side, with one control for both, and mark what differs. */
export function openCompare(gallery, cards) {
  const screens = cards.map(({ data }) => screen(data));
  const videos = screens.flat().filter((element) => element instanceof HTMLVideoElement);
  const play = button({ label: "Play both", text: "Play both", name: "play" }, () => {
    const paused = videos.some((video) => video.paused);
    for (const video of videos) {
      if (paused) video.play().catch(() => {});
      else video.pause();
    }
  });
  const seek = h("input", {
    type: "range",
    min: 0,
    max: 1000,
    value: 0,
    "aria-label": "Position in both videos",
    oninput: () => {
      for (const video of videos) {
        if (Number.isFinite(video.duration)) video.currentTime = (seek.value / 1000) * video.duration;
      }
    },
  });
  for (const video of videos) {
    video.muted = true;
    video.addEventListener("timeupdate", () => {
      if (video === videos[0] && !seek.matches(":active"))
        seek.value = (video.currentTime / video.duration) * 1000;
    });
    for (const event of ["play", "pause", "ended"]) {
      video.addEventListener(event, () => {
        const paused = videos.every((one) => one.paused);
        play.setAttribute("aria-label", paused ? "Play both" : "Pause both");
        fill(play, icon(paused ? "play" : "pause"), h("span", {}, paused ? "Play both" : "Pause both"));
      });
    }
  }
  openDialog(
    gallery.overlay,
    { label: "Two videos side by side", className: "large compare-dialog" },
    dialogHead("Side by side"),
    h(
      "div",
      { className: "pair" },
      cards.map(({ data }, index) =>
        h(
          "section",
          { "aria-label": data.name },
          h("div", { className: "stage" }, screens[index]),
          h("h3", {}, data.name),
        ),
      ),
    ),
    videos.length ? h("div", { className: "both" }, play, seek) : null,
    differences(cards.map(({ data }) => data)),
  );
}

function differences([left, right]) {
  const sides = [left, right].map((data) => new Map([["Prompt", data.prompt], ...facts(data)]));
  const words = [...new Set(sides.flatMap((side) => [...side.keys()]))];
  return h(
    "table",
    { className: "differences" },
    h("caption", { className: "offscreen" }, "What differs is marked"),
    h("colgroup", {}, h("col", { className: "words" }), h("col"), h("col")),
    h(
      "thead",
      { className: "offscreen" },
      h("tr", {}, h("td"), h("th", { scope: "col" }, left.name), h("th", { scope: "col" }, right.name)),
    ),
    h(
      "tbody",
      {},
      words.map((word) => {
        const [one, other] = sides.map((side) => side.get(word) || "–");
        return h(
          "tr",
          { className: one === other ? "" : "differs" },
          h("th", { scope: "row" }, word),
          h("td", {}, one),
          h("td", {}, other),
        );
      }),
    ),
  );
}
