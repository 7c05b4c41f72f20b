// The element <kling-videos>: reads the cards, draws them, and follows the running ones.

import { ApiError, loginLink, picture, ROOT, videos } from "./api.js";
import { Card } from "./card.js";
import { button, fill, h, icon } from "./dom.js";
import { openTrigger } from "./form.js";
import { cost, costOfAll } from "./format.js";
import { Head } from "./head.js";
import { isRunning, stateOf } from "./states.js";
import { openCompare, openViewer } from "./viewer.js";

const STYLES = ["base", "head", "card", "dialog"];
const PAGE = 60;
/** Seconds between two looks at the running cards, and at the first page. */
const POLL = 3;
const REFRESH = 15;
/** The page waits this many times as long as the last answer took. */
const SLOW = 10;
/** How many running cards one poll asks for; those on the screen come first. */
const AT_MOST = 40;
const NOTE_SECONDS = 8;

class KlingVideos extends HTMLElement {
  connectedCallback() {
    this.context = {
      dag_id: this.getAttribute("dag-id"),
      run_id: this.getAttribute("run-id"),
      task_id: this.getAttribute("task-id"),
      map_index: this.getAttribute("map-index"),
    };
    this.cards = new Map();
    this.chosen = [];
    this.clockOffset = 0;
    this.stopped = new AbortController();
    this.draw();
    this.load();
    this.ticker = setInterval(() => this.eachCard((card) => card.tick()), 1000);
    this.pollLater();
    document.addEventListener("visibilitychange", () => document.hidden || this.poll(), {
      signal: this.stopped.signal,
    });
  }

  disconnectedCallback() {
    this.stopped.abort();
    this.loading?.abort();
    clearInterval(this.ticker);
    clearTimeout(this.poller);
  }

  draw() {
    const { dag_id: dagId, task_id: taskId } = this.context;
    this.head = new Head({
      title: dagId ? null : "Kling videos",
      withDag: !dagId,
      onChange: () => this.load(),
    });
    this.warning = h("div", { className: "banner", role: "alert", hidden: true });
    this.list = h("div", { className: "cards", "aria-label": "Videos", role: "region" });
    this.foot = h("div", { className: "foot" });
    this.tray = h("div", { className: "tray", role: "region", "aria-label": "Comparison", hidden: true });
    this.notes = h("div", { className: "notes", role: "status", "aria-live": "polite" });
    this.overlay = h("div");
    const root = this.shadowRoot ?? this.attachShadow({ mode: "open" });
    const main = h(
      "div",
      { className: `page${taskId ? " one-task" : ""}`, hidden: true },
      this.head.element,
      this.warning,
      this.list,
      this.foot,
    );
    const styles = STYLES.map((name) =>
      h("link", { rel: "stylesheet", href: new URL(`kling/www/${name}.css`, ROOT) }),
    );
    root.replaceChildren(
      ...styles,
      h("div", { className: "root" }, main, this.tray, this.notes, this.overlay),
    );
    // Nothing is shown before its style is there.
    const ready = (link) => new Promise((done) => (link.onload = link.onerror = done));
    Promise.all(styles.map(ready)).then(() => {
      main.hidden = false;
    });
    this.sentinel = new IntersectionObserver(
      (entries) => entries.some((entry) => entry.isIntersecting) && this.loadMore(),
      {
        rootMargin: "800px",
        scrollMargin: "800px", // Airflow scrolls a part of the page, not the window.
      },
    );
    this.stopped.signal.addEventListener("abort", () => this.sentinel.disconnect());
  }

  filters() {
    return this.context.task_id ? this.context : { ...this.context, ...this.head.filters() };
  }

  /** Read the first page anew. */
  async load() {
    this.loading?.abort();
    this.loading = new AbortController();
    const { signal } = this.loading;
    const waits = setTimeout(() => this.showSkeleton(), 200);
    this.list.setAttribute("aria-busy", "true");
    try {
      const answer = await videos({ ...this.filters(), limit: PAGE }, signal);
      this.cards.clear();
      fill(this.list);
      this.show(answer);
      if (!this.cards.size) this.showEmpty();
    } catch (error) {
      if (error.name !== "AbortError") this.showProblem(error);
    } finally {
      clearTimeout(waits);
      if (!signal.aborted) this.list.removeAttribute("aria-busy");
    }
  }

  async loadMore() {
    if (!this.next || this.readsMore) return;
    this.readsMore = true;
    const { signal } = this.loading;
    try {
      const answer = await videos({ ...this.filters(), limit: PAGE, cursor: this.next }, signal);
      this.show(answer);
      if (!answer.cards.length && !answer.next)
        fill(this.foot, h("p", { className: "quiet" }, "There are no others."));
      else if (answer.cards.length) this.list.querySelector(".empty")?.remove();
    } catch (error) {
      if (error.name !== "AbortError") this.say(error.message, { problem: true });
    } finally {
      this.readsMore = false;
    }
  }

  /** Take an answer with a page of cards. */
  show(answer) {
    this.take(answer);
    this.list.append(...answer.cards.map((data) => this.add(data).element));
    this.next = answer.next;
    this.found = answer.cards.length > 0;
    this.updateWarning();
    this.updateFoot();
  }

  /** Take what each answer says besides its cards. */
  take(answer) {
    this.clockOffset = answer.now - Date.now() / 1000;
    if (answer.head) this.head.update(answer.head);
    this.triggererAlive = answer.triggerer_alive;
    this.updateWarning();
  }

  add(data) {
    const card = new Card(this, data);
    this.cards.set(data.key, card);
    return card;
  }

  updateWarning() {
    const waits = [...this.cards.values()].some((card) => isRunning(card.data));
    this.warn(
      this.triggererAlive === false && waits
        ? "No triggerer is alive. The jobs go on at the gateway, but Airflow does not notice their progress or their end. Start the triggerer."
        : null,
    );
  }

  warn(text, ...more) {
    const shown = this.warning.querySelector("span")?.textContent ?? null;
    if (shown === text) return;
    this.warning.hidden = text === null;
    fill(this.warning, text === null ? null : [icon("alert"), h("span", {}, text), more]);
  }

  updateFoot() {
    this.sentinel.disconnect();
    if (!this.next) {
      fill(
        this.foot,
        this.cards.size > PAGE ? h("p", { className: "quiet" }, `All ${this.cards.size} videos`) : null,
      );
      return;
    }
    // Videos that Airflow has forgotten are read from their files, which may be far away: only on demand.
    const forgotten = this.next.startsWith("files/");
    if (forgotten && this.context.run_id) {
      fill(this.foot);
      return;
    }
    const text = forgotten ? "Look for older videos in the folders" : "Show more";
    const more = button({ label: forgotten ? text : "Show more videos", text }, () => this.loadMore());
    fill(this.foot, more);
    // After a page without a fitting video the next one is read on demand: there may be many such pages.
    if (!forgotten && this.found) this.sentinel.observe(more);
  }

  // Life.

  now() {
    return Date.now() / 1000 + this.clockOffset;
  }

  eachCard(visit) {
    for (const card of this.cards.values()) visit(card);
  }

  /** Look again later: the slower the last answer came, the later, so that the page takes little of a busy server. */
  pollLater(took = 0) {
    clearTimeout(this.poller);
    const delay = Math.max(POLL * 1000, SLOW * took);
    if (!this.stopped.signal.aborted) this.poller = setTimeout(() => this.poll(), delay);
  }

  async poll() {
    clearTimeout(this.poller);
    if (document.hidden || !this.isConnected) {
      this.pollLater();
      return;
    }
    const began = Date.now();
    try {
      if (Date.now() - (this.refreshedAt ?? 0) > REFRESH * 1000) await this.refresh();
      else await this.update(this.runningCards());
      if (this.lost) {
        this.lost = false;
        this.warn(null);
        this.updateWarning();
      }
    } catch (error) {
      if (error.name !== "AbortError") {
        this.lost = true;
        this.warn(
          error.status === 401 ? "You are logged out." : `${error.message} The page tries again.`,
          error.status === 401 ? login() : null,
        );
      }
    }
    this.pollLater(Date.now() - began);
  }

  /** The running cards, those on the screen first. */
  runningCards() {
    const running = [...this.cards.values()].filter((card) => isRunning(card.data));
    if (running.length <= AT_MOST) return running;
    const far = ({ element }) => {
      const { top, bottom } = element.getBoundingClientRect();
      return Math.max(0, -bottom, top - innerHeight);
    };
    return running.sort((one, other) => far(one) - far(other)).slice(0, AT_MOST);
  }

  /** Ask for some cards again, and say which ones have ended. */
  async update(cards) {
    if (!cards.length) return;
    const { signal } = this.stopped;
    const answer = await videos({ task: cards.map((card) => card.data.key), previews: 0 }, signal);
    this.take({ ...answer, head: null });
    if (this.apply(answer.cards)) await this.refresh();
  }

  /** Update cards in place. Return whether one of them has ended. */
  apply(news) {
    const ended = [];
    for (const data of news) {
      const card = this.cards.get(data.key);
      if (!card) continue;
      if (isRunning(card.data) && !isRunning(data)) ended.push(data);
      card.update(data);
    }
    if (ended.length > 3) this.say(`${ended.length} videos have ended.`);
    else if (ended.length)
      this.say(ended.map((data) => `${data.name}: ${stateOf(data).label.toLowerCase()}`).join(", "));
    return ended.length > 0;
  }

  /** Look at the first page again after an action; what fails now is told by the next poll. */
  async refreshAfter(...cards) {
    await this.refresh(cards).catch(() => {});
  }

  /** Look at the first page again: new cards come in at the top, the counters are renewed. */
  async refresh(others = []) {
    this.refreshedAt = Date.now();
    const { signal } = this.loading;
    const answer = await videos({ ...this.filters(), limit: PAGE, previews: 0 }, signal);
    this.take(answer);
    this.apply(answer.cards);
    const unknown = answer.cards.filter((data) => !this.cards.has(data.key)).map((data) => data.key);
    // These have no poster yet: a poll brings no pictures.
    const bare = answer.cards
      .filter((data) => data.state === "made" && !this.cards.get(data.key)?.data.poster)
      .map((data) => data.key);
    const keys = [
      ...new Set([
        ...unknown,
        ...bare.filter((key) => !this.asked.has(key)),
        ...others.map((card) => card.data.key),
      ]),
    ];
    bare.forEach((key) => this.asked.add(key));
    if (!keys.length) return;
    const full = await videos({ task: keys.slice(0, AT_MOST) }, signal);
    this.apply(full.cards);
    const fresh = full.cards
      .filter((data) => !this.cards.has(data.key))
      .map((data) => this.add(data).element);
    if (!fresh.length) return;
    this.list.querySelector(".empty")?.remove();
    this.list.prepend(...fresh);
    this.updateWarning();
  }

  /** Cards whose pictures were asked for after a poll. */
  asked = new Set();

  // What the cards ask for.

  /** A link inside Airflow's UI. */
  link(path, attributes, ...children) {
    const follow = (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
      const wish = new CustomEvent("kling-navigate", {
        detail: path,
        bubbles: true,
        composed: true,
        cancelable: true,
      });
      if (!this.dispatchEvent(wish)) event.preventDefault();
    };
    return h("a", { href: new URL(path, ROOT), onclick: follow, ...attributes }, ...children);
  }

  /** The cards with something to see, in the order of the page. */
  visibleCards() {
    const places = new Map([...this.list.children].map((element, place) => [element, place]));
    return [...this.cards.values()]
      .filter(({ data }) => data.player || picture(data.poster))
      .sort((one, other) => places.get(one.element) - places.get(other.element));
  }

  open(card) {
    openViewer(this, card);
  }

  again(card) {
    const { data } = card;
    const buys = Boolean(data.tasks?.submit);
    const several = buys && data.run_cards > 1;
    const single = buys ? priceAgain(data, "This buys again.", "video", cost(data).text) : null;
    openTrigger(this, {
      dagId: data.dag_id,
      conf: data.trigger_conf ?? {},
      inputs: several ? {} : { ...whole(data.inputs), model: data.model },
      title: "Again with changes",
      price: several ? this.priceOfRun(data) : single,
      consent: several ? `Make all ${data.run_cards} videos again` : null,
      picture: picture(data.source) ?? picture(data.poster),
    });
  }

  /** What it costs to run again a Dag that has made several videos, in words. */
  async priceOfRun(data) {
    const { dag_id, run_id, run_cards: count, name } = data;
    const { cards } = await videos({ dag_id, run_id, limit: 200, previews: 0 });
    const bought = cards.filter((card) => card.tasks?.submit);
    const what = `The Dag makes all ${count} videos of the run again, not only ${name}.`;
    return priceAgain(data, what, "ones", costOfAll(bought, count));
  }

  isChosen(card) {
    return this.chosen.includes(card);
  }

  /** Choose a card for the comparison, or take it back; the third replaces the first. */
  choose(card) {
    const before = this.chosen;
    this.chosen = before.includes(card) ? before.filter((one) => one !== card) : [...before, card].slice(-2);
    for (const one of new Set([...before, ...this.chosen])) one.showChosen(this.isChosen(one));
    this.tray.hidden = !this.chosen.length;
    const [first, second] = this.chosen;
    fill(
      this.tray,
      this.chosen.map(({ data }) =>
        h(
          "span",
          { className: "pick" },
          picture(data.poster ?? data.source)
            ? h("img", { src: picture(data.poster ?? data.source), alt: "" })
            : null,
          data.name,
        ),
      ),
      first && !second ? h("span", { className: "quiet" }, "Choose a second one") : null,
      second
        ? button(
            { label: "Show side by side", text: "Show side by side", name: "columns", kind: "primary" },
            () => openCompare(this, this.chosen),
          )
        : null,
      button({ label: "End the comparison", name: "close", kind: "bare" }, () =>
        [...this.chosen].forEach((one) => this.choose(one)),
      ),
    );
  }

  /** Say something for some seconds; screen readers read it too. */
  say(text, { problem = false, link = null } = {}) {
    const note = h(
      "p",
      { className: problem ? "note-text problem" : "note-text" },
      icon(problem ? "alert" : "check"),
      h("span", {}, text),
      link ? this.link(link[0], {}, link[1]) : null,
    );
    this.notes.append(note);
    setTimeout(() => note.remove(), NOTE_SECONDS * 1000);
  }

  // Instead of cards.

  showSkeleton() {
    if (this.cards.size) return;
    fill(
      this.list,
      Array.from({ length: 6 }, () =>
        h(
          "div",
          { className: "card skeleton", "aria-hidden": "true" },
          h("div", { className: "media" }),
          h("div", { className: "body" }, h("i"), h("i"), h("i")),
        ),
      ),
    );
  }

  showEmpty() {
    const { dag_id: dagId, run_id: runId, task_id: taskId } = this.context;
    const [title, text] = this.head.isFiltered()
      ? ["No video matches", "Change the search or the filters."]
      : taskId
        ? ["This task makes no video", "Tasks that submit, wait for or download a Kling video show it here."]
        : [
            `No videos ${runId ? "in this run" : dagId ? "of this Dag" : ""} yet`.replace("  ", " "),
            "As soon as a task of this provider starts a job, its picture, its progress and its video are here.",
          ];
    fill(
      this.list,
      h(
        "div",
        { className: "empty" },
        h("span", { className: "empty-picture" }, icon("film")),
        h("h2", {}, title),
        h("p", {}, text),
      ),
    );
  }

  showProblem(error) {
    this.cards.clear();
    const out = error instanceof ApiError && error.status === 401;
    fill(
      this.list,
      h(
        "div",
        { className: "empty", role: "alert" },
        h("span", { className: "empty-picture" }, icon("alert")),
        h("h2", {}, out ? "Please log in" : "The videos cannot be shown"),
        h("p", {}, error instanceof ApiError ? error.message : String(error)),
        out ? login() : button({ label: "Try again", text: "Try again", name: "again" }, () => this.load()),
      ),
    );
    if (!(error instanceof ApiError)) throw error;
  }
}

function priceAgain(data, what, which, price) {
  const gap = data.trigger_conf ? "" : " The run's own values are not known here: look at each field.";
  return `${what} The earlier ${which}: ${price}. Model, length and sound change the price.${gap}`;
}

/** The inputs without the texts that a card has only in part: data as a hash, URLs without signatures. */
function whole(inputs) {
  const isWhole = (value) => typeof value !== "string" || !/https?:|, sha256 \w+>$|^.{4000}/is.test(value);
  return Object.fromEntries(Object.entries(inputs ?? {}).filter(([, value]) => isWhole(value)));
}

function login() {
  return h("a", { className: "button primary", href: loginLink() }, "Log in");
}

if (!customElements.get("kling-videos")) customElements.define("kling-videos", KlingVideos);
