"use strict";
// Zooms and filters; without it the page still shows everything.
(() => {
  const canvas = document.getElementById("canvas");
  const scroll = document.getElementById("scroll");
  const controls = document.querySelector(".controls");
  if (!canvas || !scroll || !controls) return;
  const zero = Number(controls.dataset.zero);
  const total = Number(controls.dataset.total);
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800];
  let zoom = 1;

  const two = (n) => String(n).padStart(2, "0");
  const clock = (s) => {
    const sign = s < 0 ? "−" : "";
    s = Math.abs(s);
    const whole = Math.floor(s + 1e-6);
    const days = Math.floor(whole / 86400);
    const tenths = Math.round((s - whole) * 10);
    return sign + (days ? days + "d " : "") + two(Math.floor(whole / 3600) % 24) + ":" + two(Math.floor(whole / 60) % 60) +
      ":" + two(whole % 60) + (tenths > 0 ? "." + tenths : "");
  };
  const laneWidth = () => canvas.clientWidth - (document.querySelector(".label")?.offsetWidth ?? 0);

  // Only as many ticks as can be seen, around what is in view.
  function ticks() {
    const width = laneWidth();
    const step = steps.find((s) => (s / total) * width >= 84) ?? 172800;
    const view = scroll.clientWidth / width * total;
    const from = Math.max(0, scroll.scrollLeft / width * total - view);
    const to = Math.min(total, from + 3 * view);
    const box = document.getElementById("ticks");
    box.textContent = "";
    for (let t = Math.ceil((from - zero) / step) * step; t + zero <= to; t += step) {
      const tick = document.createElement("span");
      tick.style.left = (100 * (t + zero)) / total + "%";
      tick.style.display = "inline";
      tick.textContent = clock(t);
      box.append(tick);
    }
  }

  // Zooms and keeps a moment where it is: by default that in the middle.
  function zoomTo(next, moment) {
    const label = document.querySelector(".label")?.offsetWidth ?? 0;
    const half = (scroll.clientWidth - label) / 2;
    const middle = moment ?? ((scroll.scrollLeft + half) / laneWidth()) * total;
    zoom = next;
    canvas.style.setProperty("--zoom", zoom);
    scroll.scrollLeft = (middle / total) * laneWidth() - half;
    for (const button of controls.querySelectorAll("button")) button.classList.toggle("on", Number(button.dataset.zoom) === zoom);
    ticks();
  }

  for (const button of controls.querySelectorAll("button")) button.addEventListener("click", () => zoomTo(Number(button.dataset.zoom)));
  for (const box of controls.querySelectorAll("input")) {
    box.addEventListener("change", () => canvas.classList.toggle("no-" + box.dataset.shows, !box.checked));
  }
  for (const link of document.querySelectorAll("[data-jump]")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      document.getElementById("time").scrollIntoView();
      scroll.scrollTop = 0;
      zoomTo(Math.max(zoom, 10), Number(link.dataset.jump));
    });
  }
  let due = false;
  scroll.addEventListener("scroll", () => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => { due = false; ticks(); });
  });
  window.addEventListener("resize", ticks);

  const hint = document.getElementById("hint");
  const show = (event) => {
    const part = event.target.closest("g, .lane > svg");
    const title = part?.querySelector(":scope > title");
    if (title) hint.textContent = title.textContent;
  };
  scroll.addEventListener("pointerover", show);
  scroll.addEventListener("click", show);

  const filter = document.getElementById("filter");
  const rows = [...document.querySelectorAll(".ways tbody tr")];
  filter?.addEventListener("input", () => {
    const wanted = filter.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const is = row.textContent.toLowerCase().includes(wanted) || row.querySelector("code").title.includes(wanted);
      row.hidden = !is;
      shown += is ? 1 : 0;
    }
    document.getElementById("shown").textContent = wanted ? shown + " of " + rows.length : "";
  });
  zoomTo(1);
})();
