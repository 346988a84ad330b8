"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const { charts, hover, dark } = read("chart-data");
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const options = {
    responsive: true, displaylogo: false, showSendToCloud: false, displayModeBar: "hover",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "toggleSpikelines"],
  };

  const inDark = (value) => {
    if (typeof value === "string") return dark[value] || value;
    if (Array.isArray(value)) return value.map(inDark);
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, inDark(v)]));
    return value;
  };
  const withHover = (trace) => {
    if (!Array.isArray(trace.customdata) || Array.isArray(trace.customdata[0])) return trace;
    return { ...trace, hovertext: trace.customdata.map((number) => hover[number] || "") };
  };
  const draw = (name, asDark, width) => {
    const place = document.getElementById(`chart-${name}`);
    const chart = asDark ? inDark(charts[name]) : charts[name];
    const size = { height: Number(place.dataset.height), ...(width ? { width, autosize: false } : { autosize: true }) };
    return Plotly.react(place, chart.data.map(withHover), { ...chart.layout, ...size }, options);
  };
  const drawAll = (asDark, width) => Object.keys(charts).forEach((name) => draw(name, asDark, width));
  drawAll(prefersDark.matches);
  prefersDark.addEventListener("change", () => drawAll(prefersDark.matches));
  addEventListener("beforeprint", () => drawAll(false, 640));
  addEventListener("afterprint", () => drawAll(prefersDark.matches));

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
  const save = (button) => {
    const source = document.getElementById(button.dataset.download).textContent;
    const isTable = button.dataset.file.endsWith(".csv");
    const text = isTable ? JSON.parse(source) : JSON.stringify(JSON.parse(source), null, 1);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: isTable ? "text/csv" : "application/json" }));
    link.download = button.dataset.file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  document.querySelectorAll("[data-copy]").forEach((b) => b.addEventListener("click", () => copy(b)));
  document.querySelectorAll("[data-download]").forEach((b) => b.addEventListener("click", () => save(b)));

  const body = document.querySelector("#trial-table tbody");
  const rows = [...body.rows];
  const filters = { state: "by-state", type: "by-type", text: "by-text", front: "by-front" };
  const field = Object.fromEntries(Object.entries(filters).map(([name, id]) => [name, document.getElementById(id)]));
  const filter = () => {
    const wanted = field.text.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const [, state, types] = [...row.cells].map((cell) => cell.textContent);
      const fits = (!field.state.value || state === field.state.value)
        && (!field.type.value || types.split(" + ").includes(field.type.value))
        && (!field.front.checked || row.querySelector("td.front"))
        && row.textContent.toLowerCase().includes(wanted);
      row.hidden = !fits;
      shown += fits;
    }
    document.getElementById("shown").textContent = `${shown} of ${rows.length} trials`;
  };
  Object.values(field).forEach((f) => f.addEventListener("input", filter));
  document.getElementById("filters").addEventListener("submit", (event) => event.preventDefault());

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
    body.append(...rows);
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
