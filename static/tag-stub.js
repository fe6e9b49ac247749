// The race stub: inline and above the tag, for pages where visitors may click right after opening.
// Queues early calls; a plain click on a link with the placeholder waits for the tag.
// Guarantees that no click waits longer than 1.5 s, and that clicks which the page handles itself are left alone.

((w, d) => {
  const stub = (w.clickstamp = w.clickstamp || function () { (stub.q = stub.q || []).push(arguments); });
  // Last of all listeners: what the page prevents stays prevented.
  w.addEventListener("click", (event) => {
    const link = event.target.closest?.('a[href*="CLICK-ID" i]');
    if (
      !link || "id" in w.clickstamp || event.defaultPrevented || event.button ||
      event.metaKey || event.ctrlKey || event.shiftKey || event.altKey ||
      (link.target && link.target != "_self")
    )
      return;
    const go = () => {
      clearTimeout(timer);
      d.removeEventListener("clickstamp:ready", go);
      location.href = link.href;
    };
    const timer = setTimeout(go, 1500);
    event.preventDefault();
    d.addEventListener("clickstamp:ready", go);
  });
})(window, document);
