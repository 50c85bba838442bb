"use strict";
// The report's page: sorts tables, draws figures in the page's colours, filters the gallery and
// downloads what is ticked. All texts are set as text, never as HTML.

const read = id => JSON.parse(document.getElementById(id).textContent);
const all = selector => [...document.querySelectorAll(selector)];
const byId = id => document.getElementById(id);
const number = value => value.toLocaleString("en");

// ---- tables

function sortTable(table, column, ascending) {
  const body = table.tBodies[0];
  const value = row => row.cells[column].dataset.value;
  const compare = (one, two) => {
    if (one === "" || two === "") return (one === "") - (two === ""); // unknown ones last
    const order = isNaN(one) || isNaN(two) ? one.localeCompare(two) : one - two;
    return ascending ? order : -order;
  };
  body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b))));
  table.querySelectorAll("thead th").forEach((head, number) => {
    if (number === column) head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    else head.removeAttribute("aria-sort");
  });
}

for (const table of all("table.sortable"))
  table.querySelectorAll("thead th button").forEach((button, column) =>
    button.addEventListener("click", () => {
      const sorted = button.parentElement.getAttribute("aria-sort");
      // names from A on, numbers from the highest on
      sortTable(table, column, sorted ? sorted === "descending" : column === 0);
    }));

// ---- figures

const figures = read("figures");
const drawn = new Map(); // place -> name of the figure that is there

const LETTER = .57; // width of a letter, as a share of its height

/** The size of a matrix of square cells, and of the numbers in them, in a place so many pixels wide. */
function square(layout, data, width, font) {
  const label = LETTER * font * Math.max(...data.y.map(name => name.length)) + 16;
  const title = layout.yaxis.title ? 2 * font : 0;
  const cell = Math.min((width - label - title - (data.showscale ? 70 : 12)) / data.y.length, 60);
  const digits = Math.min(cell / 2, font);
  if (data.texttemplate && digits < 8) delete data.texttemplate; // the colours say it
  data.textfont = { ...data.textfont, size: digits };
  if (cell < 2.5 * font) { // .84 instead of 0.84
    data.text = data.z.map(row => row.map(value => value === null ? "" : value.toFixed(2).replace(/^0|\.00$/, "")));
    if (data.texttemplate) data.texttemplate = "%{text}";
  }
  layout.yaxis.constraintoward = "top";
  layout.xaxis.constraintoward = "left";
  layout.xaxis.tickangle = label > cell ? -45 : 0;
  return cell * data.y.length + (label > cell ? .75 * label : 16) + title + 24;
}

function themed(figure, element) {
  const style = getComputedStyle(document.documentElement);
  const colour = name => style.getPropertyValue(name).trim();
  const width = element.clientWidth, narrow = width < 500, font = narrow ? 11 : 13;
  const isMatrix = figure.data[0].type === "heatmap";
  const layout = structuredClone(figure.layout);
  Object.assign(layout, {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: font, color: colour("--text") },
    margin: { l: narrow ? 48 : 64, r: 12, t: 12, b: 48 },
    legend: { orientation: narrow ? "v" : "h", x: 0, y: 1.04, yanchor: "bottom", maxheight: 1, tracegroupgap: 0 },
    hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--text") } },
    dragmode: false,
  });
  for (const axis of ["xaxis", "yaxis"]) {
    const title = layout[axis].title || {};
    if (narrow && title.text) title.text = title.text.replace(", ", ",<br>");
    layout[axis] = Object.assign(layout[axis], {
      automargin: true, gridcolor: colour("--line"), linecolor: colour("--line"), zeroline: false,
      showgrid: !isMatrix, title: Object.assign(title, { standoff: 12 }),
    });
  }
  const data = structuredClone(figure.data);
  // Plotly takes a cell's colour for opaque, so that its dark numbers vanish on a dark page.
  if (isMatrix && matchMedia("(prefers-color-scheme: dark)").matches) data[0].textfont = { color: colour("--text") };
  if (isMatrix && narrow) data[0].showscale = false; // its numbers, or its colours, say it
  const lines = data.filter(line => line.showlegend !== false).length;
  const height = isMatrix ? square(layout, data[0], width, font) : narrow ? 300 + 20 * lines : 432;
  return [data, { ...layout, width, height }];
}

function draw(place, name) {
  const element = byId(place);
  drawn.set(place, name);
  if (place === "matrix") byId("matrix-title").textContent = byId("matrix-choice").selectedOptions[0].text;
  const [data, layout] = themed(figures[name], element);
  element.style.height = `${layout.height}px`;
  Plotly.react(element, data, layout, { displaylogo: false, displayModeBar: false });
}

const redraw = () => drawn.forEach((name, place) => draw(place, name));

function drawAll() {
  for (const element of all("[data-figure]"))
    setTimeout(() => draw(element.id, element.dataset.figure)); // one by one: the page stays alive
  const choice = byId("matrix-choice");
  if (!choice) return;
  setTimeout(() => draw("matrix", choice.value));
  choice.addEventListener("change", () => draw("matrix", choice.value));
}

setTimeout(drawAll); // after the gallery, which is there at once
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
let drawnFor = innerWidth, waiting;
addEventListener("resize", () => { // of the width: phones change the height while one scrolls
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    if (innerWidth !== drawnFor) redraw();
    drawnFor = innerWidth;
  }, 200);
});
// On paper the figures have the paper's width and dark lines on white, whatever the screen has.
addEventListener("beforeprint", () => {
  drawn.forEach((name, place) => {
    const [data, layout] = themed(figures[name], byId(place));
    delete data[0].textfont;
    byId(place).style.height = "";
    for (const axis of [layout.xaxis, layout.yaxis]) axis.gridcolor = axis.linecolor = "#d5dbe1";
    Plotly.react(byId(place), data, { ...layout, width: 640, height: 420, font: { ...layout.font, color: "#000" } });
  });
});
addEventListener("afterprint", redraw);

// ---- gallery

const gallery = read("samples");
const PAGE = 60; // cards that are shown at a time
const ticked = new Set(); // positions in gallery.samples
const corrections = new Map(); // position -> what was written; what is not ticked shows none of it
let unsaved = false; // whether something was ticked or written since the last download
let limit = PAGE;
let shown = [];

/** What one method, or for -1 all of them together, say of a sample; null: nothing. */
function opinion(sample, method) {
  return method < 0 ? sample.all : sample.by[method];
}

function chosen() {
  const method = Number(byId("by-method").value);
  const given = byId("by-given").value, predicted = byId("by-predicted").value;
  const flagged = byId("only-flagged").checked, onlyTicked = byId("only-ticked").checked;
  return gallery.samples
    .map((sample, position) => ({ sample, position, says: opinion(sample, method) }))
    .filter(({ sample, position, says }) => says
      && (given === "" || sample.given === Number(given))
      && (predicted === "" || says.predicted === Number(predicted))
      && (!flagged || says.flags > 0)
      && (!onlyTicked || ticked.has(position)))
    .sort((a, b) => a.says.rank - b.says.rank);
}

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function picture(sample, name) {
  if (!sample.picture) return element("div", { className: "picture" }, `no picture of ${name}`);
  const image = element("img", { className: "picture", alt: `${name}`, src: sample.picture });
  image.addEventListener("load", () => image.classList.toggle("tiny", image.naturalWidth <= 40));
  return image;
}

function truth(sample) {
  if (sample.clean === -2) return []; // unknown
  if (sample.clean === sample.given) return [element("span", { className: "right" }, "✓ truth: the label is right")];
  return [element("span", { className: "wrong" }, `✗ truth: ${gallery.classes[sample.clean] ?? "none of the classes"}`)];
}

const isNoClass = written => written !== "" && !gallery.classes.includes(written);
const nameOf = sample => sample.file || `sample ${number(sample.index)}`;

function card({ sample, position, says }) {
  const item = element("li", { className: ticked.has(position) ? "ticked" : "" });
  const name = nameOf(sample);
  const box = element("input", { type: "checkbox", checked: ticked.has(position) });
  box.setAttribute("aria-label", `${name}: given ${gallery.classes[sample.given]}, predicted ${gallery.classes[says.predicted]}; tick as wrong`);
  const tick = on => {
    box.checked = on;
    ticked[on ? "add" : "delete"](position);
    item.classList.toggle("ticked", on);
    unsaved = ticked.size > 0;
    write();
    count();
  };
  box.addEventListener("change", () => tick(box.checked));
  const ranked = says === sample.all ? gallery.count : gallery.judged[sample.by.indexOf(says)];
  const votes = sample.by.filter(each => each && each.flags).length, judges = sample.by.filter(Boolean).length;
  const right = element("input", { type: "text", placeholder: "right label" });
  right.setAttribute("list", "class-names");
  right.setAttribute("aria-label", `right label of ${name}`);
  const write = () => {
    right.value = ticked.has(position) ? corrections.get(position) || "" : "";
    right.setCustomValidity(isNoClass(right.value) ? "none of the classes: choose one of the list" : "");
  };
  right.addEventListener("input", () => { unsaved = true; });
  right.addEventListener("change", () => { // to write a label ticks, to clear it takes that back
    corrections.set(position, right.value.trim());
    tick(right.value.trim() !== "");
    right.reportValidity();
  });
  write();
  item.append(
    element("label", {}, box, picture(sample, name)),
    element("div", { className: "labels" },
      element("span", {}, "given ", element("b", {}, gallery.classes[sample.given])),
      element("span", {}, "predicted ", element("b", {}, gallery.classes[says.predicted]))),
    ...truth(sample),
    element("div", { className: "faint" },
      `${sample.file ? `${sample.file}, ` : ""}no. ${number(sample.index)}${sample.annotation ? `, annotation ${sample.annotation}` : ""}`),
    element("div", { className: "faint" },
      `${says === sample.all && judges > 1 ? "mean rank" : "rank"} ${number(Math.max(1, Math.round(says.rank * ranked)))}`
      + (judges > 1 ? `, flagged by ${votes} of ${judges}` : votes ? ", flagged" : "")),
    right);
  return item;
}

function count() {
  byId("count").textContent = `${number(shown.length)} labels, ${number(Math.min(limit, shown.length))} shown, ${number(ticked.size)} ticked`;
  byId("download").disabled = byId("untick").disabled = ticked.size === 0;
}

function render() {
  shown = chosen();
  byId("cards").replaceChildren(...shown.slice(0, limit).map(card));
  byId("more").hidden = shown.length <= limit;
  count();
}

/** RFC 4180, which every spreadsheet and Python's csv read. */
function csv(rows) {
  const cell = value => /[",\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value);
  return rows.map(row => row.map(cell).join(",") + "\n").join("");
}

function download() {
  const wrong = [...ticked].filter(position => isNoClass(corrections.get(position) || ""));
  byId("refused").hidden = wrong.length === 0;
  byId("refused").textContent = `Not downloaded, since some right labels are none of the classes. Correct or clear ${wrong
    .map(position => `"${corrections.get(position)}" of ${nameOf(gallery.samples[position])}`).join(", ")}.`;
  if (wrong.length) return;
  const method = Number(byId("by-method").value);
  const head = ["index", "file", "given_label", "given_name", "predicted_label", "predicted_name", "new_label", "new_name"];
  const rows = [...ticked].sort((a, b) => gallery.samples[a].index - gallery.samples[b].index).map(position => {
    const sample = gallery.samples[position];
    const predicted = (opinion(sample, method) || sample.all).predicted;
    const written = corrections.get(position) || "";
    const label = gallery.classes.indexOf(written);
    return [sample.index, sample.file, sample.given, gallery.classes[sample.given],
      predicted, gallery.classes[predicted], label < 0 ? "" : label, written];
  });
  const link = element("a", {
    href: URL.createObjectURL(new Blob([csv([head, ...rows])], { type: "text/csv" })), download: "ticked_labels.csv",
  });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  unsaved = false;
}

if (gallery.samples.length) {
  for (const id of ["by-method", "by-given", "by-predicted", "only-flagged", "only-ticked"])
    byId(id).addEventListener("change", () => { limit = PAGE; render(); });
  byId("more").addEventListener("click", () => {
    const next = Math.min(limit, shown.length);
    limit += PAGE;
    render();
    byId("cards").children[next].querySelector("input").focus(); // where the reader was
  });
  byId("tick-all").addEventListener("click", () => {
    shown.slice(0, limit).forEach(({ position }) => ticked.add(position));
    unsaved = true;
    render();
  });
  byId("untick").addEventListener("click", () => { ticked.clear(); unsaved = false; render(); });
  addEventListener("beforeunload", event => { if (unsaved) event.preventDefault(); });
  byId("download").addEventListener("click", download);
  render();
}
