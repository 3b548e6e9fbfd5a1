// The playground: this browser calls the relay; what a model writes is only ever text.
// The borrowed secret lives in a variable here, and goes when the page does.
"use strict";
(() => {
  const page = document.getElementById("playground");
  if (!page) return;
  page.hidden = false;
  document.getElementById("needs-script").hidden = true;
  const words = page.dataset;
  const at = (id) => document.getElementById(id);
  const talk = at("talk"), ask = at("ask"), stop = at("stop"), send = at("send");
  const field = (name) => ask.elements.namedItem(name);
  const LENT_MARGIN_MS = 60000, LOOK_MS = 700, LOOKS_MAX = 40;
  let secret = null, until = 0, messages = [], running = null;

  const state = (text, kind) => {
    at("state").textContent = text;
    at("state").dataset.state = kind || "";
  };

  const line = (name) => {
    const item = document.createElement("li"), who = document.createElement("p"), text = document.createElement("p");
    who.className = "hint";
    who.textContent = name;
    text.className = "said";
    item.append(who, text);
    talk.append(item);
    return text;
  };

  const borrow = async () => {
    if (secret && Date.now() < until) return secret;
    state(words.lending, "");
    const answer = await fetch("/playground/lend", {
      method: "POST",
      headers: { "content-type": "application/x-www-form-urlencoded", "x-csrf-token": words.csrf },
      body: new URLSearchParams({ key: words.key }),
    });
    if (!(answer.headers.get("content-type") || "").includes("json")) throw new Error(`${words.failed}: ${answer.status}`);
    const lent = await answer.json();
    if (!answer.ok) throw new Error(lent.error);
    secret = lent.secret;
    until = Date.now() + lent.seconds * 1000 - LENT_MARGIN_MS;
    return secret;
  };

  // An amount as the page writes it: what is beyond cents stands back (macros.html, money).
  const balance = (shown, text) => {
    const fine = document.createElement("span"), cents = text.indexOf(".") + 3;
    fine.className = "fine";
    fine.textContent = text.slice(cents);
    shown.classList.toggle("negative", text.startsWith("-"));
    shown.replaceChildren(text.slice(0, cents), ...(fine.textContent ? [fine] : []));
  };

  // What the books say of a call; true when it has ended.
  const look = async (id) => {
    const answer = await fetch(`/playground/progress?id=${encodeURIComponent(id)}`);
    if (!answer.ok) return false;
    const told = await answer.json();
    if (told.cost) at("cost").textContent = told.cost;
    if (told.written !== undefined && told.written !== null) at("tokens").textContent = `${told.read} → ${told.written}`;
    if (told.state !== "ended") return false;
    at("left").textContent = told.balance;
    for (const shown of document.querySelectorAll("[data-balance] .money")) balance(shown, told.balance);
    const link = document.createElement("a");
    link.href = told.receipt;
    link.textContent = id;
    at("receipt").replaceChildren(link);
    return true;
  };

  const pause = (ms) => new Promise((go) => { setTimeout(go, ms); });

  const watch = async (call) => {
    while (running === call) {
      await pause(LOOK_MS);
      if (running === call && call.id) await look(call.id).catch(() => false);
    }
  };

  const settle = async (id, text) => {
    state(words.settling, "");
    for (let looks = 0; looks < LOOKS_MAX; looks += 1) {
      if (await look(id).catch(() => false)) break;
      await pause(LOOK_MS / 2);
    }
    state(text, "");
    window.sluice.say(text);
  };

  // The data of each server-sent event, as it comes.
  async function* events(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const one of lines) if (one.startsWith("data:")) yield one.slice(5).trim();
    }
  }

  const read = async (call, answer, into) => {
    let thought = null;
    for await (const data of events(answer.body)) {
      if (data === "[DONE]") break;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message || words.failed);
      const delta = event.choices && event.choices[0] && event.choices[0].delta;
      if (!delta) continue;
      const said = delta.content || "", thinking = delta.reasoning_content || "";
      if ((said || thinking) && !call.first) {
        call.first = performance.now();
        at("first").textContent = `${Math.round(call.first - call.began)} ms`;
        state(words.running, "open");
      }
      if (thinking) {
        if (!thought) {
          thought = document.createElement("p");
          thought.className = "hint said";
          thought.textContent = `${words.thinking}: `;
          into.before(thought);
        }
        thought.textContent += thinking;
      }
      if (said) { call.text += said; into.textContent = call.text; }
      at("lasted").textContent = `${((performance.now() - call.began) / 1000).toFixed(1)} s`;
    }
  };

  const refused = async (answer) => {
    const text = await answer.text();
    try { return JSON.parse(text).error.message; } catch { return `${answer.status} ${text.slice(0, 300)}`; }
  };

  const converse = async (call, into) => {
    const key = await borrow();
    const system = field("system").value.trim();
    state(words.waiting, "");
    call.began = performance.now();
    const answer = await fetch(`${words.relay}/v1/chat/completions`, {
      method: "POST",
      signal: call.controller.signal,
      headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
      body: JSON.stringify({
        model: words.model,
        messages: system ? [{ role: "system", content: system }, ...messages] : messages,
        max_tokens: Number(field("max_tokens").value),
        stream: true,
      }),
    }).catch((error) => { throw error.name === "AbortError" ? error : new Error(words.unreachable); });
    call.id = answer.headers.get("x-request-id");
    if (answer.status === 401) secret = null;
    if (!answer.ok) throw new Error(await refused(answer));
    await read(call, answer, into);
  };

  const busy = (on) => {
    send.disabled = on;
    stop.hidden = !on;
    talk.setAttribute("aria-busy", String(on));
  };

  ask.addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = field("message").value.trim();
    if (!text || running) return;
    const call = { id: null, controller: new AbortController(), first: 0, began: performance.now(), text: "" };
    running = call;
    busy(true);
    for (const id of ["cost", "tokens", "first", "lasted", "left", "receipt"]) at(id).textContent = "–";
    line(words.you).textContent = text;
    messages.push({ role: "user", content: text });
    field("message").value = "";
    const into = line(words.model);
    let ended = words.done;
    watch(call);
    try {
      await converse(call, into);
      if (!call.text) into.textContent = words.empty;
    } catch (error) {
      ended = error.name === "AbortError" ? words.stopped : `${words.failed}: ${error.message}`;
    }
    running = null;
    if (call.text) messages.push({ role: "assistant", content: call.text }); else messages.pop();
    busy(false);
    if (call.id && (call.first || ended === words.done)) await settle(call.id, ended); else state(ended, ended === words.done ? "" : "lost");
    field("message").focus();
  });

  field("message").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) ask.requestSubmit();
  });
  stop.addEventListener("click", () => { if (running) running.controller.abort(); });
  at("anew").addEventListener("click", () => {
    if (running) running.controller.abort();
    messages = [];
    talk.replaceChildren();
    state("", "");
  });
  window.addEventListener("pagehide", () => { secret = null; if (running) running.controller.abort(); });
})();
