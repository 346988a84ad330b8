"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const { charts, hover, dark, study } = read("chart-data");
  const configurations = read("configurations");
  const everything = read("download-json");
  everything.trials.forEach((trial, i) => { trial.configuration = JSON.parse(configurations[i]); });
  const trials = Object.fromEntries(everything.trials.map((trial) => [trial.number, trial]));
  const front = new Set(everything.front);
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const options = {
    responsive: true, displaylogo: false, showSendToCloud: false, displayModeBar: "hover",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "toggleSpikelines"],
  };
  const rows = [...document.querySelectorAll("#trial-table tbody tr")];
  const numberOf = (row) => Number(row.cells[0].textContent);
  const configured = Object.fromEntries(rows.map((row) => [numberOf(row), row.querySelector(".words").textContent]));
  let wanted = null; // numbers of the trials that the filter lets through; null: all of them

  // Charts: drawn when they come near the window, all of them before printing.

  const inDark = (value) => {
    if (typeof value === "string") return dark[value] || value;
    if (Array.isArray(value)) return value.map(inDark);
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, inDark(v)]));
    return value;
  };
  const isOfTrials = (trace) => Array.isArray(trace.customdata) && !Array.isArray(trace.customdata[0]);
  const filtered = (trace) => {
    if (!wanted) return trace;
    const gaps = (values) => values.map((value, i) => (wanted.has(trace.customdata[i]) ? value : null));
    return { ...trace, x: gaps(trace.x), y: gaps(trace.y) };
  };
  const wrapped = (text) => {
    const lines = [""];
    for (const word of text.split(" ")) {
      const last = lines.at(-1);
      if (last && last.length + word.length > 63) lines.push(word);
      else lines[lines.length - 1] = last ? `${last} ${word}` : word;
    }
    return lines.map((line) => line.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;")).join("<br>");
  };
  const told = (number) => { // the configuration stands below the first line
    const [first, ...rest] = hover[number].split("<br>");
    return [first, wrapped(configured[number]), ...rest].join("<br>");
  };
  const withHover = (trace) => ({ ...trace, hovertext: trace.customdata.map((number) => (number in hover ? told(number) : "")) });
  const draw = (place, asDark, width) => {
    const chart = charts[place.id.replace("chart-", "")];
    const { data, layout } = asDark ? inDark(chart) : chart;
    const height = Number(place.dataset.height);
    const size = width ? { width, height: Math.max(180, 0.72 * height), autosize: false } : { height, autosize: true }; // two to a printed page
    const traces = data.map((trace) => (isOfTrials(trace) ? withHover(filtered(trace)) : trace));
    Plotly.react(place, traces, { ...layout, ...size }, options);
    if (!place.dataset.drawn) place.on("plotly_click", (event) => open(event.points[0].customdata));
    place.dataset.drawn = "yes";
  };
  const places = [...document.querySelectorAll(".plot[data-height]")];
  const drawAll = (chosen, asDark, width) => chosen.forEach((place) => draw(place, asDark, width));
  const drawn = () => places.filter((place) => place.dataset.drawn);
  const nearby = new IntersectionObserver((entries) => {
    for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
      nearby.unobserve(target);
      if (!target.dataset.drawn) draw(target, prefersDark.matches);
    }
  }, { rootMargin: "300px 0px" });
  addEventListener("load", () => places.forEach((place) => nearby.observe(place))); // plotly stands below and is there by then
  prefersDark.addEventListener("change", () => drawAll(drawn(), prefersDark.matches));
  addEventListener("beforeprint", () => drawAll(places, false, 640));
  addEventListener("afterprint", () => drawAll(drawn(), prefersDark.matches));

  // One trial: its configuration, learning curve and commands.

  const dialog = document.getElementById("details");
  const plain = (text) => text.replace(/<br>/g, "\n").replace(/<[^>]*>/g, "").replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&");
  const curve = (number) => {
    const points = { x: [], y: [] };
    for (const trace of charts.loss ? charts.loss.data : []) {
      trace.customdata.forEach((of, i) => { if (of === number) { points.x.push(trace.x[i]); points.y.push(trace.y[i]); } });
    }
    return points;
  };
  const open = (number) => {
    if (!dialog || !trials[number]) return;
    const [title, ...more] = plain(told(number)).split("\n");
    const inside = (name) => dialog.querySelector(`[data-of="${name}"]`);
    inside("title").textContent = title[0].toUpperCase() + title.slice(1);
    inside("told").textContent = more.join("\n");
    inside("train").textContent = `autopeft train ${study.folder} --pick ${number}`;
    inside("export").textContent = `autopeft export ${study.folder} --pick ${number}`;
    inside("configuration").textContent = JSON.stringify(trials[number].configuration, null, 1);
    if (!dialog.open) dialog.showModal();
    const points = curve(Number(number));
    const place = inside("curve");
    place.hidden = !points.x.length || !window.Plotly;
    if (!place.hidden) {
      const { layout } = charts.loss;
      const made = { data: [{ type: "scatter", mode: "lines", ...points, line: { color: "#0072b2", width: 2 } }], layout: { ...layout, height: 220, showlegend: false } };
      const shown = prefersDark.matches ? inDark(made) : made;
      Plotly.react(place, shown.data, shown.layout, options);
    }
    dialog.scrollTop = 0;
  };

  // Buttons.

  const copy = async (button) => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  };
  const inWords = everything.trials.map(({ number }) => configured[number]);
  const csv = ({ head, rows: parts }) => {
    const quoted = (text) => `"${text.replaceAll('"', '""')}"`;
    const harmless = (text) => (/^[=+\-@\t\r]/.test(text) ? `'${text}` : text);
    const field = (text) => (/[",\r\n]/.test(text) ? quoted(harmless(text)) : harmless(text));
    return head + parts.map(([before, after], i) => before + [field(inWords[i]), quoted(configurations[i])].join() + after).join("");
  };
  const contents = {
    "download-csv": () => csv(read("download-csv")),
    "download-json": () => JSON.stringify(everything, null, 1),
    "download-front": () => JSON.stringify(read("download-front"), null, 1),
  };
  const save = (button) => {
    const isTable = button.dataset.file.endsWith(".csv");
    const text = contents[button.dataset.download]();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: isTable ? "text/csv" : "application/json" }));
    link.download = button.dataset.file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  document.addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (!button) { if (target === dialog) dialog.close(); }
    else if ("copy" in button.dataset) copy(button);
    else if ("download" in button.dataset) save(button);
    else if ("trial" in button.dataset) open(button.dataset.trial);
    else if ("close" in button.dataset) dialog.close();
  });

  // Filter: of the table of all trials and of every chart of trials.

  const form = document.getElementById("filters");
  const quantity = (input) => {
    const found = input.value.trim().match(/^(\d+(?:\.\d+)?) *([kmgt]?)b?(%?)$/i);
    input.setAttribute("aria-invalid", String(Boolean(input.value.trim()) && !found));
    if (!found) return Infinity;
    const [, amount, power, percent] = found;
    const unit = { "": 1, k: 1e3, m: 1e6, g: 1e9, t: 1e12 }[power.toLowerCase()];
    return percent ? (amount / 100) * study.base_parameters : amount * unit;
  };
  const typesOf = ({ configuration }) => (configuration.components.length ? configuration.components.map((c) => c.type) : [configuration.strategy ? configuration.strategy.name : "head only"]);
  const filter = () => {
    const field = Object.fromEntries([...form.elements].filter((e) => e.name).map((e) => [e.name, e]));
    const text = field.text.value.trim().toLowerCase();
    const limits = ["trainable_parameters", "peak_memory_bytes"].map((name) => [name, field[name] ? quantity(field[name]) : Infinity]);
    const fits = (row) => {
      const trial = trials[numberOf(row)];
      return (!field.state.value || trial.state === field.state.value)
        && (!field.type.value || typesOf(trial).includes(field.type.value))
        && (!field.front.checked || front.has(trial.number))
        && limits.every(([name, limit]) => limit === Infinity || (trial.values[name] != null && trial.values[name] <= limit))
        && row.textContent.toLowerCase().includes(text);
    };
    const passing = rows.filter(fits);
    wanted = passing.length === rows.length ? null : new Set(passing.map(numberOf));
    rows.forEach((row) => { row.hidden = wanted !== null && !wanted.has(numberOf(row)); });
    document.getElementById("shown").textContent = wanted ? `${passing.length} of ${rows.length} trials` : `${rows.length} trials`;
    drawAll(drawn(), prefersDark.matches);
  };
  if (form) {
    let soon = 0;
    form.addEventListener("input", () => { clearTimeout(soon); soon = setTimeout(filter, 120); });
    form.addEventListener("reset", () => setTimeout(filter));
    form.addEventListener("submit", (event) => event.preventDefault());
  }

  // Sorting.

  const heads = [...document.querySelectorAll("#trial-table th")];
  const sort = (head, column) => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((h) => h.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => {
      const cell = row.cells[column];
      return cell.dataset.key === undefined ? cell.textContent : Number(cell.dataset.key);
    };
    const missing = (value) => value === "–" || value === "";
    const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
    rows.sort((first, second) => {
      const [a, b] = [key(first), key(second)];
      if (missing(a) || missing(b)) return missing(a) - missing(b);
      return down ? compare(b, a) : compare(a, b);
    });
    document.querySelector("#trial-table tbody").append(...rows);
  };
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => sort(head, column)));

  const links = [...document.querySelectorAll("nav a")];
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((e) => e.isIntersecting)) {
      links.forEach((link) => link.classList.toggle("here", link.hash === `#${entry.target.id}`));
    }
  }, { rootMargin: "-20% 0px -75% 0px" });
  document.querySelectorAll("main > section").forEach((section) => watcher.observe(section));
  document.documentElement.dataset.ready = "yes";
})();
