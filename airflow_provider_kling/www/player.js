// The player, and the preview inside a card: without sound under the mouse, with controls after a tap.

import { picture, playerUrl } from "./api.js";
import { h, icon } from "./dom.js";

const HOVER_DELAY = 150;
const CAN_HOVER = matchMedia("(hover: hover)");
const LESS_MOTION = matchMedia("(prefers-reduced-motion: reduce)");

/** The one that plays; there is never a second one. */
let playing = null;

export class Preview {
  constructor(pane, url) {
    this.pane = pane;
    this.url = url;
    this.timer = null;
    this.video = null;
    pane.addEventListener("pointerenter", (event) => {
      if (event.pointerType !== "mouse" || !CAN_HOVER.matches || LESS_MOTION.matches || this.video) return;
      this.timer = setTimeout(
        () => this.start({ muted: true, loop: true, tabindex: -1, "aria-hidden": "true" }),
        HOVER_DELAY,
      );
    });
    pane.addEventListener("pointerleave", () => {
      clearTimeout(this.timer);
      if (this.video && !this.video.controls) this.stop();
    });
  }

  /** Play in place where there is no mouse. Return false where the tap shall do something else. */
  onTap() {
    if (CAN_HOVER.matches) {
      this.stop();
      return false;
    }
    this.start({ controls: true });
    return true;
  }

  start(attributes) {
    playing?.stop();
    playing = this;
    const video = h("video", {
      className: "moving",
      src: this.url,
      playsinline: true,
      preload: "auto",
      onplaying: () => this.pane.classList.add("plays"),
      onerror: () => {
        // The end of a preview is told as an error too.
        if (this.video !== video) return;
        if (streamInstead(video)) play();
        else this.stop();
      },
      ...attributes,
    });
    this.video = video;
    this.pane.append(video);
    // A browser may refuse to play, or the mouse has gone: the poster stays.
    const play = () => video.play().catch(() => {});
    play();
  }

  stop() {
    clearTimeout(this.timer);
    if (playing === this) playing = null;
    this.pane.classList.remove("plays");
    if (!this.video) return;
    this.video.pause();
    // Ends the download too.
    this.video.removeAttribute("src");
    this.video.load();
    this.video.remove();
    this.video = null;
  }
}

/** A link of the storage may not work in a browser: then the video comes through Airflow, once. */
export function streamInstead(video) {
  const url = new URL(video.src);
  if (url.searchParams.has("stream")) return false;
  url.searchParams.set("stream", "1");
  video.src = url.href;
  return true;
}

/** The player, or the poster and why there is no player. */
export function screen(data, { autoplay = false } = {}) {
  const url = playerUrl(data);
  const poster = picture(data.poster);
  if (url) {
    const problem = h("p", { className: "note", role: "alert", hidden: true });
    const video = h("video", {
      src: url,
      poster,
      controls: true,
      playsinline: true,
      preload: "metadata",
      autoplay,
      "aria-label": `Video of ${data.name}`,
      onerror: async () => {
        if (streamInstead(video)) return;
        problem.textContent = await reason(video.src);
        problem.hidden = false;
      },
    });
    return [video, problem];
  }
  return [
    poster
      ? h("img", { src: poster, alt: `First frame of ${data.name}` })
      : h("div", { className: "no-poster" }, icon("film")),
    h("p", { className: "note" }, data.player_note || "There is no video to play."),
  ];
}

/** Ask the player why it does not play. */
async function reason(url) {
  try {
    const answer = await fetch(url, { headers: { Range: "bytes=0-0" }, credentials: "same-origin" });
    if (!answer.ok) return (await answer.json()).detail;
  } catch {
    return "The video cannot be read.";
  }
  return "This browser cannot play the video. Download it instead.";
}
