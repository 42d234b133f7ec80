/** Colours, fonts and defaults of Mantine's parts. All pairs of text and ground reach 4.5:1 in both schemes. */
import { createTheme } from "@mantine/core";

export const theme = createTheme({
  primaryColor: "indigo",
  primaryShade: { light: 8, dark: 7 },
  fontFamily: "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif",
  fontFamilyMonospace: "ui-monospace, SFMono-Regular, Menlo, Consolas, 'Liberation Mono', monospace",
  defaultRadius: "md",
  respectReducedMotion: true,
  cursorType: "pointer",
  // The page has one banner; a dialog's head is none.
  components: { Modal: { defaultProps: { attributes: { header: { role: "presentation" } } } } },
});
