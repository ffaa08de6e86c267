"use strict";
// Draws the curves of the page's data with uPlot: one chart for each figure, with zoom, log scale and a legend of values.
(() => {
  const charts = JSON.parse(document.getElementById("data").textContent);
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const DASHES = [[], [7, 4], [2, 3], [12, 4, 2, 4]];
  const BORDERS = ["solid", "dashed", "dotted", "double"];

  const short = (value) =>
    value === undefined ? ""  // the curve begins later
    : value === null ? "not finite"
    : value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6) ? value.toExponential(3)
    : String(+value.toPrecision(5));

  const power = (value, digits) => value.toExponential(digits).replace("e+", "e");
  const long = (size) => size !== 0 && (size < 1e-4 || size >= 1e6);

  const ticks = (u, splits, axis, space, step) => splits.map((value) => {
    if (value == null) return "";
    const size = Math.abs(value);
    if (long(size)) return power(value, step && step < size ? Math.min(6, Math.max(0, Math.ceil(Math.log10(size / step) - 1e-9))) : 0);
    return String(+value.toFixed(step ? Math.max(0, Math.ceil(-Math.log10(step) + 1)) : 6));
  });

  // The ticks of a log scale have no common step, by which they could be rounded.
  const logTicks = (u, splits) => splits.map((value) => {
    if (value == null) return "";
    const rounded = +value.toPrecision(3);
    return long(rounded) ? power(rounded) : String(rounded);
  });

  const whole = [1, 2, 5].concat(...[1, 2, 3, 4, 5, 6, 7, 8].map((power) => [1, 2, 5].map((n) => n * 10 ** power)));

  // uPlot's own places end where numbers have 32 digits, and of a log scale they are every power of ten.
  const places = (log) => (u, axis, low, high) => {
    const [from, to] = [Math.log10(low), Math.log10(high)];
    if (log && to - from > 12) {
      const powers = Math.ceil((to - from) / 8);
      return Array.from({ length: 9 }, (_, n) => Math.ceil(from) + n * powers).filter((power) => power <= to).map((power) => Number(`1e${power}`));
    }
    return Array.from({ length: 5 }, (_, n) => low + (high - low) * n / 4);
  };

  function draw(chart, box, log) {
    // The value of a curve at a place, or before it where the curve is thinned or has ended; without a place the last one.
    const valueAt = (curve, place) => {
      const values = chart.joined[curve];
      let at = place ?? values.length - 1;
      while (at > 0 && values[at] === undefined) at--;
      return values[at];
    };
    const over = chart.over !== undefined;  // trials over a setting, else curves over epochs
    const best = over ? chart.series[1].y.findIndex((value) => value !== null) : 0;  // what the legend shows without a cursor
    const along = (log, range) => (u, low, high) => low == null ? [0, 1] : log ? uPlot.rangeLog(low, high, 10, false) : range(low, high);
    const padded = (low, high) => { const room = chart.names?.length ? 0.5 : (high - low || 1) * 0.05; return [low - room, high + room]; };
    const axis = { stroke: color("--soft"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line"), width: 1 } };
    return new uPlot({
      width: box.clientWidth,
      height: 260,
      cursor: { ...(over ? {} : { sync: { key: "epochs" } }), points: { size: 7 } },
      scales: {
        x: { time: false, distr: over && chart.log ? 3 : 1, range: along(over && chart.log, over ? padded : (low, high) => low === high ? [low - 0.5, high + 0.5] : [low, high]) },
        y: log ? { distr: 3 } : {},
      },
      axes: [
        { ...axis, size: 34, ...(!over ? { incrs: whole, values: ticks } : chart.names.length ? { splits: () => chart.names.map((name, place) => place), values: () => chart.names } : { values: chart.log ? logTicks : ticks }) },
        { ...axis, size: 64, values: log ? logTicks : ticks, ...(chart.far || (log && chart.wide) ? { incrs: (u, axis, low, high) => [(high - low) / 4], splits: places(log), filter: (u, at) => at } : {}) },
      ],
      legend: { markers: { width: 3, dash: (u, place) => BORDERS[chart.series[place - 1].dash % 4] } },
      series: [
        over
          ? { label: chart.over, value: (u, value, series, index) => { const at = chart.joined[0][index ?? best]; return `${chart.names[at] ?? short(at)} (run ${chart.runs[index ?? best]})`; } }
          : { label: "epoch", value: (u, value, series, index) => value == null ? chart.joined[0].at(-1) : value },
        ...chart.series.map((series, index) => ({
          label: series.name,
          stroke: color(`--c${series.color}`),
          dash: DASHES[series.dash % 4],
          width: series.thin ? 1 : 2.2,
          ...(over ? { paths: () => null } : {}),
          points: { size: over ? 8 + 3 * index : 5, fill: color(`--c${series.color}`), ...(over ? { show: true } : {}) },
          value: (u, value, place, at) => over ? short(chart.joined[index + 1][at ?? best] ?? undefined) : short(valueAt(index + 1, at)),
        })),
      ],
    }, chart.joined, box);
  }

  document.querySelectorAll(".charts").forEach((element) => { element.hidden = false; });
  const drawn = charts.map((chart, number) => {
    const figure = document.getElementById(`chart-${number}`);
    const [log, reset] = figure.querySelectorAll("button");
    const box = figure.querySelector(".plot");
    const curves = chart.series.map((series) => [series.x, series.y]);
    chart.joined = chart.over === undefined ? uPlot.join(curves) : [curves[0][0], ...curves.map((curve) => curve[1])];
    const positive = chart.series.every((series) => series.y.every((value) => value == null || value > 0));
    // A curve over many powers of ten is a corner in a linear chart, which also has no ticks for the largest numbers.
    const values = chart.series.flatMap((series) => series.y).filter((value) => value != null);
    const low = values.reduce((a, b) => Math.min(a, b), Infinity);
    const high = values.reduce((a, b) => Math.max(a, b), -Infinity);
    chart.wide = positive && high > 1e12 * low;
    chart.far = Math.max(Math.abs(low), Math.abs(high)) > 1e30;
    const first = positive && high > (chart.over === undefined ? 1e6 : 100) * low;
    log.setAttribute("aria-pressed", String(first));
    const state = { plot: draw(chart, box, first) };
    const again = () => {
      state.plot.destroy();
      state.plot = draw(chart, box, log.getAttribute("aria-pressed") === "true");
    };
    if (!positive) {
      log.disabled = true;
      log.title = "Some values are not positive.";
    }
    log.addEventListener("click", () => {
      log.setAttribute("aria-pressed", String(log.getAttribute("aria-pressed") !== "true"));
      again();
    });
    reset.addEventListener("click", () => state.plot.setData(chart.joined, true));
    new ResizeObserver(() => {
      if (box.clientWidth && box.clientWidth !== state.plot.width) state.plot.setSize({ width: box.clientWidth, height: 260 });
    }).observe(box);
    return again;
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach((again) => again()));
  document.documentElement.dataset.drawn = String(drawn.length);
})();
