// Requests to the gallery's API and to Airflow's, with the rights of the user who is logged in.

/** Airflow's base URL, with a slash at the end. */
export const ROOT = new URL("../../", import.meta.url).href;

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function call(path, { method = "GET", body, signal } = {}) {
  let answer;
  try {
    answer = await fetch(new URL(path, ROOT), {
      method,
      signal,
      credentials: "same-origin",
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "Airflow does not answer.");
  }
  const text = await answer.text();
  let data = null;
  try {
    data = JSON.parse(text);
  } catch {
    // A proxy may answer with HTML; the status says enough.
  }
  if (!answer.ok) throw new ApiError(answer.status, explain(answer.status, data?.detail));
  return data;
}

function explain(status, detail) {
  if (status === 401) return "You are not logged in.";
  const said = typeof detail === "string" ? detail : detail ? JSON.stringify(detail) : "";
  if (status === 403) return `Airflow does not allow it${said && said !== "Forbidden" ? `: ${said}` : "."}`;
  return said || `Airflow answers with status ${status}.`;
}

const at = (...parts) => parts.map(encodeURIComponent).join("/");

/** Where a person logs in, and comes back. */
export function loginLink() {
  return new URL(`api/v2/auth/login?next=${encodeURIComponent(location.href)}`, ROOT).href;
}

/** The address of a task instance in Airflow's UI, relative to ROOT; it opens at the log. */
export function taskPath(card, task) {
  const path = `dags/${at(card.dag_id)}/runs/${at(card.run_id)}/tasks/${at(task.task_id)}`;
  return task.map_index >= 0 ? `${path}/mapped/${task.map_index}` : path;
}

export function runPath(dagId, runId) {
  return `dags/${at(dagId)}/runs/${at(runId)}`;
}

/** The address of a video. Only the gallery's own player is accepted. */
export function playerUrl(card, download = false) {
  if (!card.player) return null;
  const url = new URL(card.player, ROOT);
  if (!url.href.startsWith(new URL("kling/api/video/", ROOT).href)) return null;
  if (download) url.searchParams.set("download", "1");
  return url.href;
}

/** A small picture of a card. Only pictures inside the answer are shown, never those of other hosts. */
export function picture(text) {
  return typeof text === "string" && /^data:image\/(jpeg|png|webp);base64,/.test(text) ? text : null;
}

/** One page of cards. */
export function videos(filters, signal) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(filters)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "") query.append(name, one);
    }
  }
  return call(`kling/api/videos?${query}`, { signal });
}

export function dagDetails(dagId) {
  return call(`api/v2/dags/${at(dagId)}/details`);
}

/** Start a run. Sent again under the same id, after an answer that was lost, it starts no second one. */
export async function triggerDag(dagId, runId, conf) {
  const body = { dag_run_id: runId, conf, logical_date: null };
  try {
    await call(`api/v2/dags/${at(dagId)}/dagRuns`, { method: "POST", body });
  } catch (error) {
    if (error.status !== 409) throw error;
  }
}

export function unpauseDag(dagId) {
  return call(`api/v2/dags/${at(dagId)}?update_mask=is_paused`, {
    method: "PATCH",
    body: { is_paused: false },
  });
}

/** Airflow's names of the operators that buy. */
const BUYS = new Set(["KlingSubmitOperator", "KlingImageToVideoOperator", "DecoratedVideoOperator"]);

/**
 * Clear a task and the later tasks of the same video, and what failed because of them, so that Airflow runs them
 * again. Return the ids of failed tasks that are not cleared, because they would buy other videos.
 */
export async function clearVideo(card, task) {
  const tasks = new Map(
    Object.values(card.tasks)
      .filter(Boolean)
      .map((one) => [marker(one).join(), one]),
  );
  const own = [...tasks.keys()];
  const later = own.slice(own.indexOf(marker(task).join())).map((name) => tasks.get(name));
  await clear(card, later, { only_failed: false });
  const all = { dry_run: true, only_failed: true, include_downstream: true };
  const failed = (await clear(card, [task], all)).task_instances ?? [];
  const others = failed.filter((one) => !tasks.has(marker(one).join()));
  const free = others.filter((one) => !BUYS.has(one.operator));
  if (free.length) await clear(card, free, { only_failed: true });
  return others.filter((one) => BUYS.has(one.operator)).map((one) => one.task_id);
}

const marker = (task) => (task.map_index >= 0 ? [task.task_id, task.map_index] : [task.task_id]);

function clear(card, tasks, which) {
  return call(`api/v2/dags/${at(card.dag_id)}/clearTaskInstances`, {
    method: "POST",
    body: {
      dry_run: false,
      dag_run_id: card.run_id,
      task_ids: tasks.map((task) => (task.map_index >= 0 ? marker(task) : task.task_id)),
      reset_dag_runs: true,
      prevent_running_task: true,
      ...which,
    },
  });
}
