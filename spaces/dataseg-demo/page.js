// A file that is too large is refused before the image input sees it: the refusal of the input
// itself leaves errors in the console.
for (const kind of ["change", "drop"]) document.addEventListener(kind, event => {
    const files = [...((event.dataTransfer ?? event.target).files ?? [])];
    if (files.every(file => file.size <= LIMIT)) return;
    event.stopImmediatePropagation();
    event.preventDefault();
    if (kind == "change") event.target.value = "";
    document.querySelector("#too-large").click();
}, true);

// A name of the legend lights up its segment in the picture of the same result.
function light(event) {
    const entry = event.target.closest?.("[data-segment]");
    document.querySelectorAll("img.mask.lit").forEach(mask => mask.classList.remove("lit"));
    if (!entry) return;
    const masks = entry.closest(".result").querySelectorAll("img.mask");
    masks[entry.dataset.segment]?.classList.add("lit");
}
for (const kind of ["mouseover", "focusin", "click"]) document.addEventListener(kind, light);
