// A dashboard's JSON as Grafana's types have it: enums by their values, options by the kind of panel.
import type { DataQuery } from '@grafana/schema';
import type { Dashboard, Panel } from '@grafana/schema/dist/esm/raw/dashboard/x/dashboard_types.gen';
import type { Options as Stat } from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type { FieldConfig as Cells, Options as Table } from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type { FieldConfig as Lines, Options as TimeSeries } from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

type Written<T> = T extends string ? `${T}` : T extends object ? { [K in keyof T]: Written<T[K]> } : T;
type Some<T> = T extends object ? { [K in keyof T]?: Some<T[K]> } : T;

// The types of Prometheus's queries are not in @grafana/schema: of these, what all queries share is checked.
interface Query extends DataQuery {
  expr: string;
  format?: 'time_series' | 'table' | 'heatmap';
  instant?: boolean;
  range?: boolean;
  legendFormat?: string;
}

type Fields<Custom> = Omit<NonNullable<Panel['fieldConfig']>, 'defaults'> & {
  defaults: Omit<NonNullable<Panel['fieldConfig']>['defaults'], 'custom'> & { custom?: Some<Custom> };
};

type Kind<Name extends string, Options, Custom> = Omit<Panel, 'type' | 'options' | 'targets' | 'fieldConfig'> & {
  type: Name;
  options?: Some<Options>;
  targets: Query[];
  fieldConfig: Fields<Custom>;
};

export type WrittenPanel = Written<
  Kind<'timeseries', TimeSeries, Lines> | Kind<'stat', Stat, never> | Kind<'table', Table, Cells>
>;

// The SDK writes these with every variable, whatever its kind; Grafana reads them of intervals only.
type Variable = NonNullable<NonNullable<Dashboard['templating']>['list']>[number] & {
  auto?: boolean;
  auto_count?: number;
  auto_min?: string;
};
export type WrittenDashboard = Written<
  Omit<Dashboard, 'panels' | 'templating'> & { templating?: { list?: Variable[] } }
>;
