// VitePress' own theme without its web fonts, in the colours of the program's pages, and the moving picture of the demo on
// the first page.

import Theme from "vitepress/theme-without-fonts";
import { h } from "vue";
import moving from "../../../docs/pictures/demo.gif";
import still from "../../../examples/pictures/demo.webp";
import "./style.css";

const ALT = "Two people chat on one page. The socket of one is cut, the other one writes on. When the socket is back, the missed messages arrive.";

export default {
  extends: Theme,
  Layout: () => h(Theme.Layout, null, { "home-features-before": picture }),
};

function picture() {
  return h("picture", { class: "demo" }, [
    h("source", { srcset: still, media: "(prefers-reduced-motion: reduce)" }),
    h("img", { src: moving, alt: ALT, width: 864, height: 602 }),
  ]);
}
