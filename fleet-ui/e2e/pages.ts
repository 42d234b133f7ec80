/** Every page by its address, each with something that is there once it is loaded. */
export interface PageOf {
  readonly name: string;
  readonly path: string;
  readonly heading: RegExp;
}

export function pagesOf({ device, rollout }: { device: string; rollout: string }): PageOf[] {
  return [
    { name: "overview", path: "/", heading: /Overview/ },
    { name: "devices", path: "/devices", heading: /Devices/ },
    { name: "devices-map", path: "/devices?view=map", heading: /Devices/ },
    { name: "device", path: `/devices/${device}`, heading: /./ },
    { name: "device-models", path: `/devices/${device}?tab=models`, heading: /./ },
    { name: "device-twin", path: `/devices/${device}?tab=twin`, heading: /./ },
    { name: "device-updates", path: `/devices/${device}?tab=updates`, heading: /./ },
    { name: "device-commands", path: `/devices/${device}?tab=commands`, heading: /./ },
    { name: "device-activity", path: `/devices/${device}?tab=activity`, heading: /./ },
    { name: "add-device", path: "/devices/add", heading: /Add device/ },
    { name: "rollouts", path: "/rollouts", heading: /Rollouts/ },
    { name: "new-rollout", path: "/rollouts/new?subject=digits@1&how=custom", heading: /Roll out/ },
    { name: "rollout", path: `/rollouts/${rollout}`, heading: /digits/ },
    { name: "models", path: "/models", heading: /Models/ },
    { name: "model", path: "/models/digits", heading: /digits/ },
    { name: "model-card", path: "/models/digits?tab=card", heading: /digits/ },
    { name: "model-devices", path: "/models/digits?tab=devices", heading: /digits/ },
    { name: "model-measured", path: "/models/digits?tab=measured", heading: /digits/ },
    { name: "model-try", path: "/models/digits?tab=try", heading: /digits/ },
    { name: "activity", path: "/activity", heading: /Activity/ },
    { name: "settings-keys", path: "/settings/keys", heading: /Settings/ },
    { name: "settings-tokens", path: "/settings/tokens", heading: /Settings/ },
    { name: "settings-tenants", path: "/settings/tenants", heading: /Settings/ },
    { name: "settings-trust", path: "/settings/trust", heading: /Settings/ },
    { name: "settings-agents", path: "/settings/agents", heading: /Settings/ },
    { name: "settings-about", path: "/settings/about", heading: /Settings/ },
  ];
}
