// Numbers and times as people read them.

const DOLLARS = { style: "currency", currency: "USD" };

/** US dollars, with as many digits as a small price needs. */
export function usd(value) {
  const digits = value !== 0 && Math.abs(value) < 0.1 ? 3 : 2;
  return value.toLocaleString("en-US", {
    ...DOLLARS,
    minimumFractionDigits: 2,
    maximumFractionDigits: digits,
  });
}

/** What a card has cost, and whether this is an estimate. */
export function cost(card) {
  if (card.cost_usd !== null && card.cost_usd !== undefined) {
    const billed = card.billed ? `: ${card.billed}` : "";
    return { text: usd(card.cost_usd), title: `Cost, as the gateway says${billed}` };
  }
  if (card.billed) return { text: card.billed, title: "Cost, as the gateway says; not converted" };
  if (card.estimated_cost_usd !== null && card.estimated_cost_usd !== undefined) {
    return { text: `≈ ${usd(card.estimated_cost_usd)}`, title: "Estimated cost" };
  }
  // A rescue buys nothing, and before a purchase there is nothing to say.
  const bought = card.kling_task_id && card.tasks?.submit;
  return bought ? { text: "price unknown", title: "No price is known for this model" } : { text: "" };
}

/** What several cards have cost together, of *count* that there are. */
export function costOfAll(cards, count) {
  const known = cards.map((card) => card.cost_usd ?? card.estimated_cost_usd).filter(Number.isFinite);
  const reused = cards.filter((card) => card.state === "reused").length;
  const unknown = count - known.length;
  return [
    `≈ ${usd(known.reduce((sum, price) => sum + price, 0))}`,
    unknown > 0 ? `${unknown} without a known price` : null,
    reused ? `${reused} reused for free` : null,
  ]
    .filter(Boolean)
    .join(", ");
}

/** A span in seconds: 4 s, 1 min 12 s, 2 h 5 min. */
export function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole === 0) return "< 1 s";
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min${whole % 60 ? ` ${whole % 60} s` : ""}`;
  const minutes = Math.floor((whole % 3600) / 60);
  return `${Math.floor(whole / 3600)} h${minutes ? ` ${minutes} min` : ""}`;
}

/** A point in time (epoch seconds): the time of today, or day and time. */
export function clock(at) {
  const date = new Date(at * 1000);
  const today = date.toDateString() === new Date().toDateString();
  const time = { hour: "2-digit", minute: "2-digit" };
  return date.toLocaleString(undefined, today ? time : { day: "numeric", month: "short", ...time });
}

/** When the work for a card began. */
export function begun(card) {
  const at = card.submitted_at || card.started_at;
  return at ? clock(at) : null;
}

export function bytes(size) {
  if (size < 1e6) return `${Math.max(1, Math.round(size / 1e3))} kB`;
  return `${(size / 1e6).toFixed(size < 1e7 ? 1 : 0)} MB`;
}

/** The first line of a text. */
export function firstLine(text) {
  return text.trim().split("\n", 1)[0];
}
