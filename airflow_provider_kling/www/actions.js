// A failure in full, and the one action that fits; done through Airflow's API with the user's own rights.

import { clearVideo } from "./api.js";
import { button, dialogHead, h, openDialog } from "./dom.js";
import { openTrigger } from "./form.js";
import { usd } from "./format.js";
import { isRunning } from "./states.js";

/** The example Dag that stores the video of a job that was paid for. */
const RESCUE_DAG = "kling_rescue";

const ACTIONS = {
  clear_wait: {
    label: "Wait again",
    name: "again",
    hint: "Free: the job is already paid for.",
    done: "The wait starts again.",
    run: (gallery, card) =>
      clear(gallery, card, card.data.tasks.wait ?? card.data.tasks.submit, ACTIONS.clear_wait.done),
  },
  clear_download: {
    label: "Download again",
    name: "download",
    hint: "Free: the video is already paid for.",
    done: "The download starts again.",
    run: (gallery, card) =>
      clear(gallery, card, card.data.tasks.download ?? card.data.tasks.submit, ACTIONS.clear_download.done),
  },
  rescue: {
    label: "Rescue the video…",
    name: "download",
    hint: "Free: a run stores the video of this job.",
    run: (gallery, card) => {
      const { kling_task_id: job, path } = card.data;
      openTrigger(gallery, {
        dagId: RESCUE_DAG,
        conf: { kling_task_id: job ?? "", ...(path ? { target: path } : {}) },
        title: "Rescue the video",
        price: "This costs nothing: the job is already paid for.",
      });
    },
  },
  buy_again: {
    label: "Buy again…",
    name: "again",
    hint: null,
    run: (gallery, card) => confirmPurchase(gallery, card),
  },
};

export function failureOf(gallery, card) {
  const { error, action, can_edit: canEdit, name } = card.data;
  if (!error) return null;
  const lines = [
    ["What happened", error.what],
    ["Money", error.money],
    ["Next", isRunning(card.data) ? `Airflow tries again by itself. ${error.advice ?? ""}` : error.advice],
  ].filter(([, text]) => text);
  const fitting = canEdit ? ACTIONS[action] : null;
  return [
    h(
      "dl",
      { className: "error", "aria-label": `Failure of ${name}` },
      lines.map(([word, text]) => h("div", {}, h("dt", {}, word), h("dd", {}, text))),
    ),
    fitting
      ? h(
          "div",
          { className: "remedy" },
          button(
            { label: `${fitting.label} ${name}`, text: fitting.label, name: fitting.name, kind: "primary" },
            () => fitting.run(gallery, card),
          ),
          h("span", {}, fitting.hint ?? `Costs ${priceOf(card)}.`),
        )
      : null,
  ];
}

function priceOf(card) {
  const price = card.data.estimated_cost_usd;
  return typeof price === "number" ? `about ${usd(price)}` : "an unknown price";
}

async function clear(gallery, card, task, done) {
  card.element.classList.add("pending");
  try {
    await clearVideo(card.data, task);
    gallery.say(`${card.data.name}: ${done}`);
    await gallery.refreshAfter(card);
    return true;
  } catch (error) {
    gallery.say(error.message, { problem: true });
    return false;
  } finally {
    card.element.classList.remove("pending");
  }
}

function confirmPurchase(gallery, card) {
  const buy = button(
    { label: `Buy again for ${priceOf(card)}`, text: `Buy again for ${priceOf(card)}`, kind: "danger" },
    async () => {
      buy.disabled = true;
      if (await clear(gallery, card, card.data.tasks.submit, "A new job is bought.")) dialog.close();
      else buy.disabled = false;
    },
  );
  const dialog = openDialog(
    gallery.overlay,
    { label: "Buy again", className: "small" },
    dialogHead("Buy this video again?"),
    h(
      "p",
      {},
      h("strong", {}, card.data.name),
      `: Airflow clears the task ${card.data.tasks.submit.task_id}, which buys a new job for ${priceOf(card)}.`,
    ),
    card.data.state === "uncertain"
      ? h(
          "p",
          { className: "warning" },
          "It is not known whether the first job was created. Look in the gateway's console first: if it is there, rescue it for free.",
        )
      : null,
    h(
      "div",
      { className: "dialog-foot" },
      button({ label: "Cancel", text: "Cancel", autofocus: true }, () => dialog.close()),
      buy,
    ),
  );
}
