// How edits reach the kernel, and what was sent when. Nothing here knows what an edit is.

// The kernel's own socket, where it runs on the machine of the browser. `send` says whether it went that way; `heard` gets
// what comes: a JSON object, and the bytes after it.
function wireTo(address, guard, heard) {
  const local = ["localhost", "127.0.0.1", "[::1]"].includes(window.location.hostname);
  if (!address || !local) return { open: () => false, send: () => false, close: () => {} };
  const socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => {
    const end = 4 + new DataView(data).getUint32(0, true), head = new TextDecoder().decode(new Uint8Array(data, 4, end - 4));
    guard(() => heard(JSON.parse(head), new Uint8Array(data, end)))();
  };
  const open = () => socket.readyState === WebSocket.OPEN;
  return {
    open,
    send: (content) => open() && (socket.send(JSON.stringify(content)), true),
    close: () => socket.close(),
  };
}

// Follows sliders of ipywidgets (name → id of the model) while a hand moves them and the wire is open. Their own messages
// would come far behind, since the front end renders itself anew for each; it sends one when the hand lets go.
function watch(manager, ids, open, moved) {
  async function hook(event) {
    if (!manager || !event.target.closest?.(".widget-slider")) return;
    for (const [name, id] of Object.entries(ids)) {
      const control = await manager.get_model(id), views = await Promise.all(Object.values(control.views ?? {}));
      const sliders = views.map((view) => view.$slider?.noUiSlider).filter(Boolean);
      control.set("continuous_update", !open() || !sliders.length);
      for (const slider of sliders) {
        slider.off("slide.dsla");
        slider.on("slide.dsla", (found) => open() && moved(name, Number(found[0]), window.event ?? event));
      }
    }
  }
  document.addEventListener("pointerdown", hook, true);
  return () => document.removeEventListener("pointerdown", hook, true);
}

// Edits on their way. Two may be, since one alone would wait for the whole round trip; what the mouse did meanwhile is
// skipped, but for the last. A traitlet's change would be one at a time, hence messages.
function editing(deliver, seq) {
  let sent = 0, latest = null; // number of the last edit sent; time of the mouse event that is not sent yet
  const stamps = new Map(), flying = new Map(); // edit number → when its event came and it was sent; until answered
  function flush() {
    const now = performance.now(), oldest = flying.values().next().value;
    if (latest === null || (flying.size > 1 && now - oldest < 2000)) return;
    sent = Math.max(sent, seq) + 1;
    stamps.set(sent, { event: latest, sent: now });
    flying.set(sent, now);
    latest = null;
    deliver(sent);
  }
  return {
    push: (event) => ((latest = event.timeStamp), flush()),
    answered(number) {
      seq = Math.max(seq, number);
      for (const old of flying.keys()) if (old <= seq) flying.delete(old);
      flush();
    },
    settled: () => seq >= sent,
    times(number) {
      const found = stamps.get(number) ?? { event: null };
      for (const old of stamps.keys()) if (old <= number) stamps.delete(old);
      return found;
    },
  };
}

