// The page outside Airflow's UI: the same element, with the theme of Airflow's UI.

import "./element.js";

function followTheme() {
  const theme = localStorage.getItem("theme");
  document.documentElement.className = theme === "dark" || theme === "light" ? theme : "";
}

followTheme();
addEventListener("storage", followTheme);

const element = document.createElement("kling-videos");
for (const [name, value] of new URLSearchParams(location.search)) {
  if (["dag-id", "run-id", "task-id", "map-index"].includes(name)) {
    element.setAttribute(name, value);
  }
}
const main = document.createElement("main");
main.append(element);
document.body.append(main);
