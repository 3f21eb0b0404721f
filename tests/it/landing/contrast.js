// The texts of the page whose contrast to what is behind them is below that of WCAG 2.2 AA.
(() => {
  const parts = color => color.match(/[\d.]+/g).map(Number);
  const light = color => {
    const [r, g, b] = parts(color).map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (; element; element = element.parentElement) {
      const color = getComputedStyle(element).backgroundColor;
      if (parts(color)[3] !== 0) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  const weak = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.getClientRects().length) continue;
    seen += 1;
    const both = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a);
    const contrast = (both[0] + 0.05) / (both[1] + 0.05);
    if (contrast < 4.5) weak.push(`${contrast.toFixed(2)}: ${texts.currentNode.data}`);
  }
  return seen < 20 ? ['there are too few texts to judge'] : weak;
})()
