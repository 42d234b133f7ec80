/** Wires providers, router and root element; it decides nothing. */
import { MantineProvider } from "@mantine/core";
import "@mantine/core/styles.css";
import { Notifications } from "@mantine/notifications";
import "@mantine/notifications/styles.css";
import { QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { http } from "./api/client";
import { router } from "./router";
import { setRouter } from "./shell/navigate";
import { queries } from "./shell/queries";
import "./shell/shell.css";
import "./shell/print.css";
import { theme } from "./shell/theme";
import { dateSeen } from "./ui/clock";

const nonce = document.querySelector<HTMLMetaElement>('meta[name="csp-nonce"]')?.content;
// By this name the lock on scrolling behind a dialog looks for the nonce of its style.
Object.assign(globalThis, { __webpack_nonce__: nonce });

setRouter(router);
http.use({ onResponse: ({ response }) => dateSeen(response.headers.get("date")) });
createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <MantineProvider theme={theme} defaultColorScheme="auto" getStyleNonce={() => nonce ?? ""}>
      <Notifications position="bottom-right" />
      <QueryClientProvider client={queries}>
        <RouterProvider router={router} />
      </QueryClientProvider>
    </MantineProvider>
  </StrictMode>,
);
