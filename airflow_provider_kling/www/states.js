// The states of a card, in words and colours.

const RUNNING = ["no_slot", "submitting", "queued", "rendering", "waiting", "downloading"];

const STATES = {
  no_slot: { label: "Waits for a free slot", tone: "running" },
  submitting: { label: "Submitting", tone: "running" },
  queued: { label: "Queued", tone: "running" },
  rendering: { label: "Rendering", tone: "running" },
  waiting: { label: "Waiting", tone: "running" },
  downloading: { label: "Downloading", tone: "running" },
  made: { label: "Made", tone: "made" },
  reused: { label: "Reused", tone: "reused" },
  failed: { label: "Failed", tone: "failed" },
  uncertain: { label: "Uncertain", tone: "uncertain" },
  gone: { label: "Gone", tone: "gone" },
};

export function stateOf(card) {
  return STATES[card.state] ?? { label: String(card.state), tone: "gone" };
}

export function isRunning(card) {
  return RUNNING.includes(card.state);
}

/** Whether the user may start a run as this one; of a video that Airflow has forgotten there is no run. */
export function canRunAgain(card) {
  return card.can_trigger && !isRunning(card) && Object.values(card.tasks ?? {}).some(Boolean);
}

/** The counters above the gallery: what they count, and which states they filter by. */
export const COUNTERS = [
  {
    name: "",
    label: "All",
    count: ({ made, running, failed, reused, gone }) => made + running + failed + reused + gone,
  },
  { name: "running", label: "Running", count: (head) => head.running },
  { name: "made", label: "Made", count: (head) => head.made },
  { name: "reused", label: "Reused", count: (head) => head.reused },
  { name: "failed", label: "Failed", count: (head) => head.failed },
];
