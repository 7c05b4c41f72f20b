// A failure in full, and the one action that fits; done through Airflow's API with the user's own rights.

import { clearVideo, videos } from "./api.js";
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
    run: (gallery, card) => goOn(gallery, card, card.data.tasks.wait, ACTIONS.clear_wait),
  },
  clear_download: {
    label: "Download again",
    name: "download",
    hint: "Free: the video is already paid for.",
    done: "The download starts again.",
    run: (gallery, card) => goOn(gallery, card, card.data.tasks.download, ACTIONS.clear_download),
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
    run: (gallery, card) => {
      const task = card.data.tasks.submit;
      confirm(gallery, card, task, {
        title: "Buy this video again?",
        text: `Airflow clears the task ${task.task_id}, which buys a new job for ${priceOf(card)}.`,
        label: `Buy again for ${priceOf(card)}`,
        done: "A new job is bought.",
      });
    },
  },
};

export function failureOf(gallery, card) {
  const { error, action, can_edit: mayClear, can_trigger: mayTrigger, name } = card.data;
  if (!error) return null;
  const lines = [
    ["What happened", error.what],
    ["Money", error.money],
    ["Next", isRunning(card.data) ? `Airflow tries again by itself. ${error.advice ?? ""}` : error.advice],
  ].filter(([, text]) => text);
  const fitting = (action === "rescue" ? mayTrigger : mayClear) ? ACTIONS[action] : null;
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
          h("span", {}, hintOf(card, fitting)),
        )
      : null,
  ];
}

function hintOf(card, { hint }) {
  if (!hint) return `Costs ${priceOf(card)}.`;
  const isOneTask = card.data.action.startsWith("clear") && submitsToo(card.data, card.data.tasks.wait ?? {});
  return isOneTask ? "Free, if its request has not changed." : hint;
}

function priceOf(card) {
  const price = card.data.estimated_cost_usd;
  return typeof price === "number" ? `about ${usd(price)}` : "an unknown price";
}

async function clear(gallery, card, task, done) {
  card.element.classList.add("pending");
  try {
    if (!(await isAsShown(card))) {
      gallery.say(`${card.data.name} has changed meanwhile. Look at it again.`, { problem: true });
      await gallery.refreshAfter(card);
      return true;
    }
    const buying = await clearVideo(card.data, task);
    const left = buying.length ? ` Not cleared, because they buy: ${buying.join(", ")}.` : "";
    gallery.say(`${card.data.name}: ${done}${left}`);
    await gallery.refreshAfter(card);
    return true;
  } catch (error) {
    gallery.say(error.message, { problem: true });
    return false;
  } finally {
    card.element.classList.remove("pending");
  }
}

/** Ask again before something is cleared: another person may have done it, and a job may be running by now. */
async function isAsShown({ data }) {
  const { cards } = await videos({ task: [data.key], previews: 0 });
  const situation = ({ state, kling_task_id: job, tasks }) =>
    JSON.stringify([state, job, Object.values(tasks).map((task) => task && [task.state, task.try_number])]);
  return cards.length === 1 && situation(cards[0]) === situation(data);
}

/** A task that submits, waits and downloads. Cleared, it buys where it cannot go on with its job. */
function submitsToo({ tasks }, task) {
  return tasks.submit?.task_id === task.task_id && tasks.submit.map_index === task.map_index;
}

/** Clear a task that does not buy; ask first where the same task submits too. */
function goOn(gallery, card, task, action) {
  if (!submitsToo(card.data, task)) {
    clear(gallery, card, task, action.done);
    return;
  }
  confirm(gallery, card, task, {
    title: `${action.label}?`,
    text: `Airflow clears the task ${task.task_id}, which submits too. It goes on with its job for free, unless its request has changed or the job has failed. Then it buys a new job for ${priceOf(card)}.`,
    label: action.label,
    done: action.done,
  });
}

function confirm(gallery, card, task, { title, text, label, done }) {
  const press = button({ label, text: label, kind: "danger" }, async () => {
    press.disabled = true;
    if (await clear(gallery, card, task, done)) dialog.close();
    else press.disabled = false;
  });
  const dialog = openDialog(
    gallery.overlay,
    { label: title, className: "small" },
    dialogHead(title),
    h("p", {}, h("strong", {}, card.data.name), `: ${text}`),
    h(
      "div",
      { className: "dialog-foot" },
      button({ label: "Cancel", text: "Cancel", autofocus: true }, () => dialog.close()),
      press,
    ),
  );
}
