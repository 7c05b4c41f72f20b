// What Airflow loads: a React component around the element <kling-videos>.

import "./element.js";

globalThis.AirflowPlugin = function KlingVideos({ dagId, runId, taskId, mapIndex }) {
  const navigate = globalThis.ReactRouterDOM.useNavigate();
  return globalThis.React.createElement("kling-videos", {
    key: [dagId, runId, taskId, mapIndex].join("/"),
    "dag-id": dagId,
    "run-id": runId,
    "task-id": taskId,
    "map-index": mapIndex,
    // Airflow's own router opens links inside Airflow, so that the UI is not loaded anew.
    "onkling-navigate": (event) => {
      event.preventDefault();
      navigate(`/${event.detail}`);
    },
  });
};
