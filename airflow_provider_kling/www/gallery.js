"use strict";
// Airflow's UI takes the page's React component from this global.
globalThis["Kling videos"] = (props) => globalThis.React.createElement("kling-gallery", props);
