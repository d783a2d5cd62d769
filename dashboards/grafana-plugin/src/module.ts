import { DataSourcePlugin } from '@grafana/data';
import { ConfigEditor } from './components/ConfigEditor';
import { QueryEditor } from './components/QueryEditor';
import { BinnacleDatasource } from './datasource';
import type { BinnacleOptions, BinnacleQuery } from './types';

export const plugin = new DataSourcePlugin<BinnacleDatasource, BinnacleQuery, BinnacleOptions>(BinnacleDatasource).setConfigEditor(ConfigEditor).setQueryEditor(QueryEditor);
