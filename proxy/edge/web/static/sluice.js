// Comfort, nothing more: every page works without this file. No other script is ever loaded.
//
// data-copy="id"       a button that copies that element's text (shown only where it can)
// <time datetime>      said in the reader's own time zone; UTC stays in the tooltip
// form[data-auto]      asks again when a choice changes
// button[data-print]   prints the page
// input[data-find]     hides the rows (or [data-row]) of that element whose text has not these words
// [data-live]          an address of events: see `live`
// window.sluice        live(), say() for pages with a script of their own
"use strict";
(() => {
  const language = document.documentElement.lang;

  const say = (text) => {
    const spoken = document.getElementById("spoken");
    if (spoken) spoken.textContent = text;
  };

  const localTimes = (root) => {
    const now = new Date();
    const today = now.toDateString();
    for (const time of root.querySelectorAll("time[datetime]:not([title])")) {
      const moment = new Date(time.dateTime);
      if (Number.isNaN(moment.getTime())) continue;
      const clock = { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false };
      const year = moment.getFullYear() === now.getFullYear() ? undefined : "numeric";
      const day = { year, month: "short", day: "numeric" };
      const whole = { year: "numeric", month: "short", day: "numeric", ...clock, timeZoneName: "short" };
      const short = moment.toDateString() === today ? clock : { ...day, ...clock, second: undefined };
      const form = time.closest(".facts") ? whole : short;
      time.title = time.textContent;
      time.textContent = new Intl.DateTimeFormat(language, form).format(moment);
    }
  };

  const copies = (root) => {
    if (!navigator.clipboard) return;
    for (const button of root.querySelectorAll("[data-copy][hidden]")) button.hidden = false;
  };

  const prints = () => {
    for (const button of document.querySelectorAll("[data-print][hidden]")) {
      button.hidden = false;
      button.addEventListener("click", () => window.print());
    }
  };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const source = document.getElementById(button.dataset.copy);
    const label = button.querySelector("span") || button;
    const before = label.textContent;
    await navigator.clipboard.writeText(source.value ?? source.textContent);
    if (before === button.dataset.copied) return;
    label.textContent = button.dataset.copied;
    say(button.dataset.copied);
    setTimeout(() => { label.textContent = before; }, 2000);
  });

  document.addEventListener("change", (event) => {
    const form = event.target.closest("form[data-auto]");
    if (form && event.target.matches("select, [type=checkbox], [type=radio], [type=date]")) form.requestSubmit();
  });

  // A form is sent once, however often its button is pressed.
  document.addEventListener("submit", (event) => {
    if (event.target.method !== "post" || event.defaultPrevented) return;
    if (event.target.dataset.sent) { event.preventDefault(); return; }
    event.target.dataset.sent = "1";
    if (event.submitter) event.submitter.setAttribute("aria-busy", "true");
  });
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
    for (const button of document.querySelectorAll("[aria-busy]")) button.removeAttribute("aria-busy");
  });

  document.addEventListener("input", (event) => {
    const box = event.target.closest("input[data-find]");
    if (!box) return;
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = document.getElementById(box.dataset.find).querySelectorAll("tbody tr, [data-row]");
    let left = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      if (!row.hidden) left += 1;
    }
    say(String(left));
  });

  // An element with data-live="address" shows the state of the connection; each event named "row"
  // carries markup from our own server and goes to the top of the element data-into="id", which
  // keeps at most data-most="100" of them. "text" events set the text of {id, text} pairs (JSON).
  const live = (status) => {
    const into = document.getElementById(status.dataset.into || "");
    const most = Number(status.dataset.most || 100);
    const source = new EventSource(status.dataset.live);
    const state = (name) => {
      status.dataset.state = name;
      if (status.dataset[name]) status.textContent = status.dataset[name];
    };
    source.addEventListener("open", () => state("open"));
    source.addEventListener("error", () => state(source.readyState === EventSource.CLOSED ? "closed" : "lost"));
    source.addEventListener("row", (event) => {
      const template = document.createElement("template");
      template.innerHTML = event.data;
      for (const row of [...template.content.children]) {
        const old = row.id && document.getElementById(row.id);
        row.classList.add("fresh");
        if (old) old.replaceWith(row); else into.prepend(row);
        localTimes(row);
      }
      while (into.children.length > most) into.lastElementChild.remove();
      const nothing = document.getElementById(status.dataset.empty || "");
      if (nothing) nothing.hidden = true;
    });
    source.addEventListener("text", (event) => {
      for (const [id, text] of Object.entries(JSON.parse(event.data))) {
        const element = document.getElementById(id);
        if (element) element.textContent = text;
      }
    });
    window.addEventListener("pagehide", () => source.close());
    return source;
  };

  window.sluice = { live, say, localTimes, copies };
  localTimes(document);
  copies(document);
  prints();
  for (const status of document.querySelectorAll("[data-live]")) live(status);
})();
