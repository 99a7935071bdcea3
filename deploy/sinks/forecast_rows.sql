-- The rows of forecasts (docs/sinks.md). Other quantiles have other columns.
CREATE TABLE forecast_rows (
    id text, stream text NOT NULL, made_at timestamptz, value double precision NOT NULL, outside boolean,
    time timestamptz, horizon integer NOT NULL, mean double precision NOT NULL,
    lo95 double precision, lo80 double precision, median double precision,
    hi80 double precision, hi95 double precision,
    model text NOT NULL,
    PRIMARY KEY (id, made_at)
);
CREATE INDEX ON forecast_rows (stream, made_at);
