// Makes elements. All texts become text nodes, so nothing foreign is read as HTML.

const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set(["checked", "className", "disabled", "hidden", "loop", "muted", "value"]);

/** Make an element. Attributes that are null, undefined or false are left out. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (PROPERTIES.has(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  return fill(element, children);
}

/** Replace the children of an element; null, undefined and false are left out. */
export function fill(element, ...children) {
  element.replaceChildren(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

const ICONS = {
  alert: ["M12 3 1.8 20.5h20.4z", "M12 10v4.5", "M12 17.5v.2"],
  again: ["M20 11a8 8 0 1 0-2.3 6.3", "M20 4.5V11h-6.5"],
  check: ["M4.5 12.5l5 5L20 7"],
  close: ["M6 6l12 12", "M18 6L6 18"],
  columns: ["M3.5 5h7v14h-7z", "M13.5 5h7v14h-7z"],
  copy: ["M9 9h11v11H9z", "M15 9V4H4v11h5"],
  download: ["M12 4v11", "M7 10.5l5 5 5-5", "M4.5 20h15"],
  expand: ["M14 4h6v6", "M20 4l-7 7", "M10 20H4v-6", "M4 20l7-7"],
  film: ["M3 5h18v14H3z", "M10 9.2v5.6l4.8-2.8z"],
  left: ["M15 5l-7 7 7 7"],
  mute: ["M4 9.5v5h3.5l4.5 4v-13l-4.5 4z", "M16.5 9.5l5 5", "M21.5 9.5l-5 5"],
  pause: ["M8 5.5v13", "M16 5.5v13"],
  play: ["M7.5 5v14l11.5-7z"],
  question: ["M8.5 9a3.5 3.5 0 1 1 5 3.2c-1 .5-1.5 1.2-1.5 2.3", "M12 18v.2"],
  right: ["M9 5l7 7-7 7"],
  search: ["M10.5 4a6.5 6.5 0 1 1 0 13 6.5 6.5 0 0 1 0-13z", "M15.5 15.5L21 21"],
  sound: ["M4 9.5v5h3.5l4.5 4v-13l-4.5 4z", "M16 9a4.5 4.5 0 0 1 0 6", "M18.8 6.2a8.5 8.5 0 0 1 0 11.6"],
  trash: ["M4 7h16", "M9 7V4h6v3", "M6.5 7l1 13h9l1-13"],
};

/** Draw an icon. It is decoration: the button around it has the words. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", `icon icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  for (const d of ICONS[name]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", d);
    svg.append(path);
  }
  return svg;
}

/** Make a button with an icon; without a visible text, the label is also its tooltip. */
export function button({ label, text, name, kind = "plain", ...attributes }, onclick) {
  return h(
    "button",
    {
      type: "button",
      className: `button ${kind}`,
      onclick,
      ...(text ? {} : { title: label }),
      "aria-label": label,
      ...attributes,
    },
    name ? icon(name) : null,
    text ? h("span", {}, text) : null,
  );
}

/** Make a button that copies a text, and says so. */
export function copyButton(text, what) {
  const label = `Copy ${what}`;
  const element = button({ label, name: "copy", kind: "bare copy" }, async () => {
    const copied = await copy(text, element);
    fill(element, icon(copied ? "check" : "alert"));
    element.setAttribute("aria-label", copied ? "Copied" : "Cannot copy");
    setTimeout(() => {
      fill(element, icon("copy"));
      element.setAttribute("aria-label", label);
    }, 1500);
  });
  return element;
}

async function copy(text, near) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without https there is no clipboard; an old way remains.
    const area = h("textarea", { value: text, className: "offscreen" });
    near.after(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    near.focus();
    return copied;
  }
}

/** Open a modal dialog; it is removed when it is closed. */
export function openDialog(root, { label, className = "" }, ...children) {
  const dialog = h(
    "dialog",
    {
      className,
      "aria-label": label,
      onclose: () => dialog.remove(),
      // A press beside the dialog closes it; a press that only ends there does not.
      onpointerdown: (event) => event.target === dialog && dialog.close(),
    },
    h("div", { className: "dialog-body" }, ...children),
  );
  root.append(dialog);
  dialog.showModal();
  return dialog;
}

/** The head of a dialog. */
export function dialogHead(title, ...more) {
  return h(
    "header",
    { className: "dialog-head" },
    h("h2", {}, title),
    ...more,
    button({ label: "Close", name: "close", kind: "bare" }, (event) =>
      event.currentTarget.closest("dialog").close(),
    ),
  );
}
