// The elements of the page that reach beyond the right edge of the section they are in.
[...document.querySelectorAll('.card *')].filter(element => {
  const card = element.closest('.card');
  const inside = card.getBoundingClientRect().right - parseFloat(getComputedStyle(card).paddingRight);
  return element.getBoundingClientRect().right > inside + 0.5 || element.scrollWidth > element.clientWidth + 1
    && getComputedStyle(element).display !== 'inline';
}).map(element => element.outerHTML)
