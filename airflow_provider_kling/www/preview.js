// Plays a video inside its card: without sound while the mouse is over it, with controls after a tap.

import { h } from "./dom.js";

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
      if (event.pointerType !== "mouse" || LESS_MOTION.matches || this.video) return;
      this.timer = setTimeout(() => this.start({ muted: true, loop: true, tabindex: -1, "aria-hidden": "true" }), HOVER_DELAY);
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
      onerror: () => this.stop(),
      ...attributes,
    });
    this.video = video;
    this.pane.append(video);
    // A browser may refuse to play, or the mouse has gone: the poster stays.
    video.play().catch(() => {});
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
