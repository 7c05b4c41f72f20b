// Airflow's trigger form, filled in. Airflow 3.3's own form cannot be opened with values.

import { dagDetails, runPath, triggerDag, unpauseDag } from "./api.js";
import { button, dialogHead, fill, h, openDialog } from "./dom.js";

/**
 * Open the form of a Dag. Its fields hold what fits of *inputs*, else of *conf*, else the Dag's own defaults.
 * *price* is a text or a promise of one; *consent* is what must be ticked before the run can start.
 */
export async function openTrigger(
  gallery,
  { dagId, conf, inputs = {}, title, price, consent = null, picture = null },
) {
  const body = h(
    "div",
    { className: "form", "aria-busy": "true" },
    h("p", { className: "quiet" }, "Reading the form…"),
  );
  const dialog = openDialog(gallery.overlay, { label: title, className: "medium" }, dialogHead(title), body);
  try {
    const [dag, cost] = await Promise.all([dagDetails(dagId), price]);
    const form = new TriggerForm(gallery, dialog, dag, { conf, inputs, price: cost, consent, picture });
    fill(body, form.element);
    body.querySelector("input, textarea, select")?.focus();
  } catch (error) {
    const text =
      error.status === 404
        ? `Airflow has no Dag ${dagId} here. The provider's example Dags contain it.`
        : error.message;
    fill(body, h("p", { className: "problem", role: "alert" }, text));
  }
  body.removeAttribute("aria-busy");
}

class TriggerForm {
  constructor(gallery, dialog, dag, { conf, inputs, price, consent, picture }) {
    this.gallery = gallery;
    this.dialog = dialog;
    this.dag = dag;
    this.runId = `manual__${new Date().toISOString()}_${Math.random().toString(36).slice(2, 8)}`;
    const params = Object.entries(dag.params ?? {});
    this.fields = params.map(([name, param]) => {
      const ofRun = Object.hasOwn(conf, name) ? conf[name] : param.value;
      return new Field(name, param, fitting(param.schema ?? {}, inputs[name]) ?? ofRun);
    });
    this.unknown = Object.fromEntries(
      Object.entries(conf).filter(([name]) => !params.some(([known]) => known === name)),
    );
    this.problem = h("p", { className: "problem", role: "alert", hidden: true });
    this.unpause = dag.is_paused ? h("input", { type: "checkbox", checked: true }) : null;
    this.send = h("button", { type: "submit", className: "button primary" }, "Start");
    this.element = h(
      "form",
      { onsubmit: (event) => this.submit(event) },
      h(
        "div",
        { className: "form-intro" },
        picture ? h("img", { src: picture, alt: "Picture of the earlier video" }) : null,
        h(
          "div",
          {},
          h(
            "p",
            {},
            "Starts a new run of the Dag ",
            h("strong", {}, dag.dag_display_name ?? dag.dag_id),
            ".",
          ),
          price ? h("p", { className: "price" }, price) : null,
        ),
      ),
      this.fields.map((field) => field.element),
      this.unpause
        ? h(
            "label",
            { className: "check" },
            this.unpause,
            "The Dag is paused. Unpause it, so that the run starts. Its scheduled runs start too.",
          )
        : null,
      consent
        ? h("label", { className: "check" }, h("input", { type: "checkbox", required: true }), consent)
        : null,
      this.problem,
      h(
        "div",
        { className: "dialog-foot" },
        button({ label: "Cancel", text: "Cancel" }, () => dialog.close()),
        this.send,
      ),
    );
  }

  async submit(event) {
    event.preventDefault();
    this.problem.hidden = true;
    this.send.disabled = true;
    try {
      const conf = { ...this.unknown };
      for (const field of this.fields) conf[field.name] = field.read();
      await triggerDag(this.dag.dag_id, this.runId, conf);
      if (this.unpause?.checked) await unpauseDag(this.dag.dag_id);
      this.dialog.close();
      this.gallery.say("A new run has started.", {
        link: [runPath(this.dag.dag_id, this.runId), "Show the run"],
      });
      await this.gallery.refreshAfter();
    } catch (error) {
      this.problem.textContent = error.message;
      this.problem.hidden = false;
      this.send.disabled = false;
    }
  }
}

/** An input of a job as the value of a field; undefined where it does not fit. */
function fitting(schema, input) {
  const types = [schema.type].flat();
  const isNumber = types.includes("integer") || types.includes("number");
  // Some models take numbers as texts.
  const value = isNumber && typeof input === "string" && input.trim() ? Number(input) : input;
  const type = Array.isArray(value) ? "array" : typeof value;
  const fits = type === "number" ? isNumber && Number.isFinite(value) : types.includes(type);
  return fits && (!schema.enum || schema.enum.includes(value)) ? value : undefined;
}

let count = 0;

/** A field for one param of a Dag, made after its JSON schema. */
class Field {
  constructor(name, { schema = {}, description }, value) {
    this.name = name;
    this.schema = schema;
    this.types = [
      schema.type ?? (typeof value === "object" && value !== null ? "object" : typeof value),
    ].flat();
    this.id = `field-${(count += 1)}`;
    const help = description ?? schema.description;
    this.lines = this.is("array") && isTexts(schema, value);
    this.input = this.control(value);
    this.input.id = this.id;
    if (help) this.input.setAttribute("aria-describedby", `${this.id}-help`);
    const label = h("label", { for: this.id }, schema.title ?? name);
    this.element = h(
      "div",
      { className: this.is("boolean") ? "field check" : "field" },
      ...(this.is("boolean") ? [this.input, label] : [label, this.input, this.list]),
      help ? h("p", { className: "quiet", id: `${this.id}-help` }, help) : null,
    );
  }

  is(type) {
    return this.types.includes(type);
  }

  control(value) {
    const { schema, name } = this;
    const needed = !this.is("null") && (schema.minLength > 0 || this.is("integer") || this.is("number"));
    const shared = { name, required: needed };
    if (this.is("boolean")) return h("input", { type: "checkbox", name, checked: Boolean(value) });
    if (schema.enum) {
      return h(
        "select",
        shared,
        schema.enum.map((choice) =>
          h(
            "option",
            { value: choice ?? "", selected: choice === value },
            schema.values_display?.[choice] ?? String(choice ?? ""),
          ),
        ),
      );
    }
    if (this.is("integer") || this.is("number")) {
      const step = this.is("number") ? "any" : 1;
      return h("input", {
        ...shared,
        type: "number",
        step,
        min: schema.minimum,
        max: schema.maximum,
        value: value ?? "",
      });
    }
    if (this.is("array") || this.is("object")) {
      return h("textarea", {
        name,
        rows: 4,
        spellcheck: "false",
        value: this.lines ? (value ?? []).join("\n") : JSON.stringify(value, null, 2),
      });
    }
    const text = { ...shared, maxlength: schema.maxLength, minlength: schema.minLength, value: value ?? "" };
    if (schema.format === "multiline" || String(value ?? "").length > 80)
      return h("textarea", { ...text, rows: 4 });
    if (schema.examples) {
      this.list = h(
        "datalist",
        { id: `${this.id}-list` },
        schema.examples.map((example) => h("option", { value: example })),
      );
    }
    return h("input", { ...text, type: "text", list: this.list?.id });
  }

  read() {
    const { input } = this;
    if (this.is("boolean")) return input.checked;
    const text = input.value;
    if (this.is("integer") || this.is("number")) return text === "" ? null : Number(text);
    if (this.lines) return text.split("\n").filter((line) => line.trim());
    if (this.is("array") || this.is("object")) {
      try {
        return JSON.parse(text);
      } catch {
        throw new Error(`${this.schema.title ?? this.name} is not JSON.`);
      }
    }
    if (this.schema.enum) return this.schema.enum.find((choice) => String(choice ?? "") === text) ?? text;
    return text === "" && this.is("null") ? null : text;
  }
}

/** A list of texts is written with one text a line, as in Airflow's form. */
function isTexts({ items }, value) {
  return items ? items.type === "string" : (value ?? []).every((one) => typeof one === "string");
}
