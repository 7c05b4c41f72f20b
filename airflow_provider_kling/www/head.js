// Above the cards: the counters, the cost, the search and the filters.

import { fill, h, icon } from "./dom.js";
import { usd } from "./format.js";
import { COUNTERS } from "./states.js";

const SEARCH_DELAY = 300;
const LOCAL_DAY = /^\d{4}-\d\d-\d\d$/;

export class Head {
  /** @param onChange called with no arguments when a filter has changed. */
  constructor({ title, withDag, onChange }) {
    this.onChange = onChange;
    this.counters = h("div", { className: "counters", role: "group", "aria-label": "Filter by state" });
    this.cost = h("p", { className: "sum" });
    this.state = "";
    this.search = h("input", {
      type: "search",
      placeholder: "Search prompts and names",
      "aria-label": "Search prompts and names",
      oninput: () => {
        clearTimeout(this.timer);
        this.timer = setTimeout(() => this.changed(), SEARCH_DELAY);
      },
    });
    this.dag = withDag ? this.select("Dag", "All Dags") : null;
    this.model = this.select("Model", "All models");
    this.since = this.date("From");
    this.until = this.date("To");
    this.reset = h(
      "button",
      { type: "button", className: "button bare", hidden: true, onclick: () => this.clear() },
      "Clear filters",
    );
    this.element = h(
      "header",
      { className: "head" },
      h("div", { className: "headline" }, title ? h("h1", {}, title) : null, this.counters, this.cost),
      h(
        "search",
        { className: "filters", role: "search" },
        h("label", { className: "search" }, icon("search"), this.search),
        this.dag,
        this.model,
        h("label", { className: "date" }, "From", this.since),
        h("label", { className: "date" }, "To", this.until),
        this.reset,
      ),
    );
    this.readUrl();
  }

  select(label, all) {
    return h(
      "select",
      { "aria-label": label, onchange: () => this.changed() },
      h("option", { value: "" }, all),
    );
  }

  date(label) {
    return h("input", { type: "date", "aria-label": `${label} (date)`, onchange: () => this.changed() });
  }

  inputs() {
    const { search, dag, model, since, until } = this;
    return Object.entries({ search, dag, model, since, until }).filter(([, input]) => input);
  }

  changed() {
    this.writeUrl();
    this.reset.hidden = !this.isFiltered();
    this.onChange();
  }

  isFiltered() {
    return Boolean(this.state) || this.inputs().some(([, input]) => input.value);
  }

  clear() {
    this.state = "";
    for (const [, input] of this.inputs()) input.value = "";
    this.changed();
    this.search.focus();
  }

  /** The filters as the gallery's API takes them. */
  filters() {
    const day = (input, days) => {
      if (!LOCAL_DAY.test(input.value)) return null;
      const date = new Date(`${input.value}T00:00`);
      date.setDate(date.getDate() + days);
      return date.getTime() / 1000;
    };
    return {
      state: this.state,
      search: this.search.value.trim(),
      model: this.model.value,
      ...(this.dag?.value ? { dag_id: this.dag.value } : {}),
      since: day(this.since, 0),
      until: day(this.until, 1),
    };
  }

  /** The filters are part of the address, so that a reload and a bookmark keep them. */
  readUrl() {
    const query = new URLSearchParams(location.search);
    this.state = COUNTERS.some(({ name }) => name === query.get("state")) ? query.get("state") : "";
    for (const [name, input] of this.inputs()) {
      const value = query.get(name) ?? "";
      if (value && input.tagName === "SELECT") input.append(h("option", { value }, value));
      input.value = value;
    }
    this.reset.hidden = !this.isFiltered();
  }

  writeUrl() {
    const url = new URL(location.href);
    for (const [name, value] of [
      ["state", this.state],
      ...this.inputs().map(([name, input]) => [name, input.value]),
    ]) {
      if (value) url.searchParams.set(name, value);
      else url.searchParams.delete(name);
    }
    history.replaceState(history.state, "", url);
  }

  update(head) {
    const more = head.capped ? "+" : "";
    const focused = this.counters.querySelector(":focus")?.dataset.state;
    fill(
      this.counters,
      COUNTERS.map(({ name, label, count }) =>
        h(
          "button",
          {
            type: "button",
            className: "counter",
            "data-state": name,
            "data-tone": name || null,
            "aria-pressed": String(this.state === name),
            onclick: () => {
              this.state = this.state === name ? "" : name;
              this.changed();
            },
          },
          h("b", {}, `${count(head)}${more}`),
          label,
        ),
      ),
    );
    if (focused !== undefined) this.counters.querySelector(`[data-state="${focused}"]`)?.focus();
    fill(this.cost, costOf(head, more));
    if (this.dag) choices(this.dag, head.dags);
    choices(this.model, head.models);
  }
}

function costOf(head, more) {
  return [
    head.estimated_cost_usd
      ? h(
          "span",
          { className: "total", title: "Sum of the estimated costs of these videos" },
          `≈ ${usd(head.estimated_cost_usd)}${more}`,
        )
      : null,
    typeof head.cost_usd === "number"
      ? h("span", { title: "As the gateway says" }, `${usd(head.cost_usd)} billed`)
      : null,
    head.unknown_price ? h("span", {}, `${head.unknown_price} without a known price`) : null,
    head.maybe_charged
      ? h(
          "span",
          { className: "maybe", title: "Failed jobs that are perhaps charged" },
          `${head.maybe_charged} perhaps charged without a video`,
        )
      : null,
  ];
}

function choices(select, values) {
  const chosen = select.value;
  const wanted = [...new Set([...(values ?? []), ...(chosen ? [chosen] : [])])];
  const known = [...select.options].slice(1).map((option) => option.value);
  if (JSON.stringify(wanted) === JSON.stringify(known)) return;
  fill(
    select,
    select.options[0],
    wanted.map((value) => h("option", { value }, value)),
  );
  select.value = chosen;
}
