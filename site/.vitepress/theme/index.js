// VitePress' own theme without its web fonts, in the colours of the program's pages.
import Theme from "vitepress/theme-without-fonts";
import "./style.css";

export default Theme;
