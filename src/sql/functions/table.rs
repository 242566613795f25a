//! The table behind [`super::lookup`]. Every name was tried on MariaDB 10.11 and MySQL 9.7: a stored function of that name was created and the name called,
//! unquoted, with and without a space before the parenthesis and with many numbers of arguments. A name that ever reached the stored function on a
//! family's server is not that family's here (MD5 and SHA1, for one, are no longer built into MySQL 9.7), and one that did so only behind a space is `Adjacent`.
//! Functions newer than the oldest supported servers are left out until those are: there, the name may be somebody's stored function.

use super::{Effect, Families, Group, Spacing, Volatility};

#[rustfmt::skip]
pub(super) static GROUPS: &[Group] = &[
    Group { effect: Effect::Pure, volatility: Volatility::Deterministic, families: Families::Both, spacing: Spacing::Anywhere, names: &[
        "ABS", "ACOS", "ADDTIME", "AES_DECRYPT", "AES_ENCRYPT", "ASCII", "ASIN", "ATAN", "ATAN2", "AVG", "BIN", "BIT_COUNT",
        "BIT_LENGTH", "CEIL", "CEILING", "CHAR", "CHARACTER_LENGTH", "CHARSET", "CHAR_LENGTH", "COALESCE", "COERCIBILITY",
        "COLLATION", "COMPRESS", "CONCAT", "CONCAT_WS", "CONTAINS", "CONV", "CONVERT", "CONVERT_TZ", "COS", "COT", "CRC32",
        "DATE", "DATEDIFF", "DATE_FORMAT", "DAY", "DAYNAME", "DAYOFMONTH", "DAYOFWEEK", "DAYOFYEAR", "DEGREES",
        "ELT", "EXP", "EXPORT_SET", "EXTRACTVALUE", "FIELD", "FIND_IN_SET", "FLOOR", "FORMAT", "FROM_BASE64", "FROM_DAYS",
        "FROM_UNIXTIME", "GEOMETRYCOLLECTION", "GET_FORMAT", "GREATEST", "HEX", "HOUR", "IF", "IFNULL", "INET6_ATON",
        "INET6_NTOA", "INET_ATON", "INET_NTOA", "INSERT", "INSTR", "INTERVAL", "ISNULL", "IS_IPV4", "IS_IPV4_COMPAT",
        "IS_IPV4_MAPPED", "IS_IPV6", "JSON_ARRAY", "JSON_ARRAY_APPEND", "JSON_ARRAY_INSERT", "JSON_CONTAINS",
        "JSON_CONTAINS_PATH", "JSON_DEPTH", "JSON_EXTRACT", "JSON_INSERT", "JSON_KEYS", "JSON_LENGTH", "JSON_MERGE",
        "JSON_MERGE_PATCH", "JSON_MERGE_PRESERVE", "JSON_OBJECT", "JSON_OVERLAPS", "JSON_PRETTY", "JSON_QUOTE",
        "JSON_REMOVE", "JSON_REPLACE", "JSON_SEARCH", "JSON_SET", "JSON_TABLE", "JSON_TYPE", "JSON_UNQUOTE", "JSON_VALID",
        "JSON_VALUE", "LAST_DAY", "LAST_VALUE", "LCASE", "LEAST", "LEFT", "LENGTH", "LINESTRING", "LN", "LOCATE", "LOG",
        "LOG10", "LOG2", "LOWER", "LPAD", "LTRIM", "MAKEDATE", "MAKETIME", "MAKE_SET", "MATCH", "MBRCONTAINS",
        "MBRDISJOINT", "MBREQUALS", "MBRINTERSECTS", "MBROVERLAPS", "MBRTOUCHES", "MBRWITHIN", "MICROSECOND", "MINUTE",
        "MOD", "MONTH", "MONTHNAME", "MULTILINESTRING", "MULTIPOINT", "MULTIPOLYGON", "NAME_CONST", "NULLIF", "OCT",
        "OCTET_LENGTH", "ORD", "PASSWORD", "PERIOD_ADD", "PERIOD_DIFF", "PI", "POINT", "POLYGON", "POW", "POWER", "QUARTER",
        "QUOTE", "RADIANS", "REGEXP_INSTR", "REGEXP_REPLACE", "REGEXP_SUBSTR", "REPEAT", "REPLACE", "REVERSE", "RIGHT",
        "ROUND", "ROW_NUMBER", "RPAD", "RTRIM", "SECOND", "SEC_TO_TIME", "SHA2", "SIGN", "SIN", "SOUNDEX", "SPACE", "SQRT",
        "SRID", "STRCMP", "STR_TO_DATE", "ST_AREA", "ST_ASBINARY", "ST_ASGEOJSON", "ST_ASTEXT", "ST_ASWKB", "ST_ASWKT",
        "ST_BUFFER", "ST_CENTROID", "ST_CONTAINS", "ST_CONVEXHULL", "ST_CROSSES", "ST_DIFFERENCE", "ST_DIMENSION",
        "ST_DISJOINT", "ST_DISTANCE", "ST_DISTANCE_SPHERE", "ST_ENDPOINT", "ST_ENVELOPE", "ST_EQUALS", "ST_EXTERIORRING",
        "ST_GEOMCOLLFROMTEXT", "ST_GEOMCOLLFROMWKB", "ST_GEOMETRYCOLLECTIONFROMTEXT", "ST_GEOMETRYCOLLECTIONFROMWKB",
        "ST_GEOMETRYFROMTEXT", "ST_GEOMETRYFROMWKB", "ST_GEOMETRYN", "ST_GEOMETRYTYPE", "ST_GEOMFROMGEOJSON",
        "ST_GEOMFROMTEXT", "ST_GEOMFROMWKB", "ST_INTERIORRINGN", "ST_INTERSECTION", "ST_INTERSECTS", "ST_ISCLOSED",
        "ST_ISEMPTY", "ST_ISSIMPLE", "ST_LENGTH", "ST_LINEFROMTEXT", "ST_LINEFROMWKB", "ST_LINESTRINGFROMTEXT",
        "ST_LINESTRINGFROMWKB", "ST_MLINEFROMTEXT", "ST_MLINEFROMWKB", "ST_MPOINTFROMTEXT", "ST_MPOINTFROMWKB",
        "ST_MPOLYFROMTEXT", "ST_MPOLYFROMWKB", "ST_MULTILINESTRINGFROMTEXT", "ST_MULTILINESTRINGFROMWKB",
        "ST_MULTIPOINTFROMTEXT", "ST_MULTIPOINTFROMWKB", "ST_MULTIPOLYGONFROMTEXT", "ST_MULTIPOLYGONFROMWKB",
        "ST_NUMGEOMETRIES", "ST_NUMINTERIORRINGS", "ST_NUMPOINTS", "ST_OVERLAPS", "ST_POINTFROMTEXT", "ST_POINTFROMWKB",
        "ST_POINTN", "ST_POLYFROMTEXT", "ST_POLYFROMWKB", "ST_POLYGONFROMTEXT", "ST_POLYGONFROMWKB", "ST_SRID",
        "ST_STARTPOINT", "ST_SYMDIFFERENCE", "ST_TOUCHES", "ST_UNION", "ST_WITHIN", "ST_X", "ST_Y", "SUBSTRING_INDEX",
        "SUBTIME", "TAN", "TIME", "TIMEDIFF", "TIMESTAMP", "TIMESTAMPADD", "TIMESTAMPDIFF", "TIME_FORMAT", "TIME_TO_SEC",
        "TO_BASE64", "TO_DAYS", "TO_SECONDS", "TRUNCATE", "UCASE", "UNCOMPRESS", "UNCOMPRESSED_LENGTH", "UNHEX",
        "UPDATEXML", "UPPER", "VALUE", "VALUES", "WEEK", "WEEKDAY", "WEEKOFYEAR", "WEIGHT_STRING", "YEAR", "YEARWEEK",
    ] },
    Group { effect: Effect::Pure, volatility: Volatility::Deterministic, families: Families::Both, spacing: Spacing::Adjacent, names: &[
        "ADDDATE", "BIT_AND", "BIT_OR", "BIT_XOR", "CAST", "COUNT", "CUME_DIST", "DATE_ADD", "DATE_SUB", "DENSE_RANK",
        "EXTRACT", "FIRST_VALUE", "GROUP_CONCAT", "JSON_ARRAYAGG", "JSON_OBJECTAGG", "LAG", "LEAD", "MAX", "MID", "MIN",
        "NTH_VALUE", "NTILE", "PERCENT_RANK", "POSITION", "RANK", "STD", "STDDEV", "STDDEV_POP", "STDDEV_SAMP", "SUBDATE",
        "SUBSTR", "SUBSTRING", "SUM", "TRIM", "VARIANCE", "VAR_POP", "VAR_SAMP",
    ] },
    Group { effect: Effect::Pure, volatility: Volatility::Deterministic, families: Families::MariaDb, spacing: Spacing::Anywhere, names: &[
        "ADD_MONTHS", "AREA", "ASBINARY", "ASTEXT", "ASWKB", "ASWKT", "BOUNDARY", "BUFFER", "CENTROID", "CHR", "COLUMN_ADD",
        "COLUMN_CHECK", "COLUMN_CREATE", "COLUMN_DELETE", "COLUMN_EXISTS", "COLUMN_GET", "COLUMN_JSON", "COLUMN_LIST",
        "CONVEXHULL", "CRC32C", "CROSSES", "DECODE", "DECODE_ORACLE", "DIMENSION", "DISJOINT", "ENCODE", "ENDPOINT",
        "ENVELOPE", "EQUALS", "EXTERIORRING", "GEOMCOLLFROMTEXT", "GEOMCOLLFROMWKB", "GEOMETRYCOLLECTIONFROMTEXT",
        "GEOMETRYCOLLECTIONFROMWKB", "GEOMETRYFROMTEXT", "GEOMETRYFROMWKB", "GEOMETRYN", "GEOMETRYTYPE", "GEOMFROMTEXT",
        "GEOMFROMWKB", "GLENGTH", "INTERIORRINGN", "INTERSECTS", "ISCLOSED", "ISEMPTY", "ISRING", "ISSIMPLE",
        "JSON_COMPACT", "JSON_DETAILED", "JSON_EQUALS", "JSON_EXISTS", "JSON_LOOSE", "JSON_NORMALIZE", "JSON_QUERY",
        "LENGTHB", "LINEFROMTEXT", "LINEFROMWKB", "LINESTRINGFROMTEXT", "LINESTRINGFROMWKB", "LPAD_ORACLE", "LTRIM_ORACLE",
        "MBREQUAL", "MD5", "MLINEFROMTEXT", "MLINEFROMWKB", "MPOINTFROMTEXT", "MPOINTFROMWKB", "MPOLYFROMTEXT",
        "MPOLYFROMWKB", "MULTILINESTRINGFROMTEXT", "MULTILINESTRINGFROMWKB", "MULTIPOINTFROMTEXT", "MULTIPOINTFROMWKB",
        "MULTIPOLYGONFROMTEXT", "MULTIPOLYGONFROMWKB", "NATURAL_SORT_KEY", "NUMGEOMETRIES", "NUMINTERIORRINGS", "NUMPOINTS",
        "NVL", "NVL2", "OLD_PASSWORD", "OVERLAPS", "POINTFROMTEXT", "POINTFROMWKB", "POINTN", "POINTONSURFACE",
        "POLYFROMTEXT", "POLYFROMWKB", "POLYGONFROMTEXT", "POLYGONFROMWKB", "REPLACE_ORACLE", "RPAD_ORACLE", "RTRIM_ORACLE",
        "SFORMAT", "SHA", "SHA1", "STARTPOINT", "ST_BOUNDARY", "ST_ISRING", "ST_POINTONSURFACE", "ST_RELATE",
        "SUBSTR_ORACLE", "TOUCHES", "TO_CHAR", "WITHIN", "X", "Y",
    ] },
    Group { effect: Effect::Pure, volatility: Volatility::Deterministic, families: Families::MariaDb, spacing: Spacing::Adjacent, names: &[
        "MEDIAN", "PERCENTILE_CONT", "PERCENTILE_DISC", "TRIM_ORACLE",
    ] },
    Group { effect: Effect::Pure, volatility: Volatility::Deterministic, families: Families::MySql, spacing: Spacing::Anywhere, names: &[
        "ANY_VALUE", "BIN_TO_UUID", "FORMAT_BYTES", "FORMAT_PICO_TIME", "GEOMCOLLECTION", "GROUPING", "GTID_SUBSET",
        "GTID_SUBTRACT", "ICU_VERSION", "IS_UUID", "JSON_SCHEMA_VALID", "JSON_SCHEMA_VALIDATION_REPORT",
        "JSON_STORAGE_FREE", "JSON_STORAGE_SIZE", "MBRCOVEREDBY", "MBRCOVERS", "REGEXP_LIKE", "STATEMENT_DIGEST",
        "STATEMENT_DIGEST_TEXT", "ST_BUFFER_STRATEGY", "ST_FRECHETDISTANCE", "ST_GEOHASH", "ST_GEOMCOLLFROMTXT",
        "ST_HAUSDORFFDISTANCE", "ST_ISVALID", "ST_LATFROMGEOHASH", "ST_LATITUDE", "ST_LINEINTERPOLATEPOINT",
        "ST_LINEINTERPOLATEPOINTS", "ST_LONGFROMGEOHASH", "ST_LONGITUDE", "ST_MAKEENVELOPE", "ST_NUMINTERIORRING",
        "ST_POINTATDISTANCE", "ST_POINTFROMGEOHASH", "ST_SIMPLIFY", "ST_SWAPXY", "ST_TRANSFORM", "ST_VALIDATE",
        "UUID_TO_BIN", "VALIDATE_PASSWORD_STRENGTH",
    ] },
    Group { effect: Effect::Pure, volatility: Volatility::Deterministic, families: Families::MySql, spacing: Spacing::Adjacent, names: &[
        "ST_COLLECT",
    ] },
    Group { effect: Effect::Pure, volatility: Volatility::Session, families: Families::Both, spacing: Spacing::Anywhere, names: &[
        "CURRENT_ROLE", "CURRENT_USER", "DATABASE", "SCHEMA", "USER",
    ] },
    Group { effect: Effect::Pure, volatility: Volatility::Session, families: Families::Both, spacing: Spacing::Adjacent, names: &[
        "SESSION_USER", "SYSTEM_USER",
    ] },
    Group { effect: Effect::Pure, volatility: Volatility::Server, families: Families::Both, spacing: Spacing::Anywhere, names: &[
        "VERSION",
    ] },
    Group { effect: Effect::Pure, volatility: Volatility::Server, families: Families::MySql, spacing: Spacing::Anywhere, names: &[
        "PS_THREAD_ID", "ROLES_GRAPHML",
    ] },
    Group { effect: Effect::Pure, volatility: Volatility::Time, families: Families::Both, spacing: Spacing::Anywhere, names: &[
        "CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP", "LOCALTIME", "LOCALTIMESTAMP", "UNIX_TIMESTAMP", "UTC_DATE",
        "UTC_TIME", "UTC_TIMESTAMP",
    ] },
    Group { effect: Effect::Pure, volatility: Volatility::Time, families: Families::Both, spacing: Spacing::Adjacent, names: &[
        "CURDATE", "CURTIME", "NOW", "SYSDATE",
    ] },
    Group { effect: Effect::Pure, volatility: Volatility::Random, families: Families::Both, spacing: Spacing::Anywhere, names: &[
        "DEFAULT", "RAND", "RANDOM_BYTES", "UUID",
    ] },
    Group { effect: Effect::Pure, volatility: Volatility::Random, families: Families::MariaDb, spacing: Spacing::Anywhere, names: &[
        "ROWNUM", "SYS_GUID",
    ] },
    Group { effect: Effect::ConnectionId, volatility: Volatility::Session, families: Families::Both, spacing: Spacing::Anywhere, names: &[
        "CONNECTION_ID",
    ] },
    Group { effect: Effect::ConnectionId, volatility: Volatility::Session, families: Families::MySql, spacing: Spacing::Anywhere, names: &[
        "PS_CURRENT_THREAD_ID",
    ] },
    Group { effect: Effect::FoundRows, volatility: Volatility::Session, families: Families::Both, spacing: Spacing::Anywhere, names: &[
        "FOUND_ROWS",
    ] },
    Group { effect: Effect::RowCount, volatility: Volatility::Session, families: Families::Both, spacing: Spacing::Anywhere, names: &[
        "ROW_COUNT",
    ] },
    Group { effect: Effect::LastInsertId, volatility: Volatility::Session, families: Families::Both, spacing: Spacing::Anywhere, names: &[
        "LAST_INSERT_ID",
    ] },
    Group { effect: Effect::GetLock, volatility: Volatility::Server, families: Families::Both, spacing: Spacing::Anywhere, names: &[
        "GET_LOCK",
    ] },
    Group { effect: Effect::ReleaseLock, volatility: Volatility::Server, families: Families::Both, spacing: Spacing::Anywhere, names: &[
        "RELEASE_LOCK",
    ] },
    Group { effect: Effect::ReleaseAllLocks, volatility: Volatility::Server, families: Families::Both, spacing: Spacing::Anywhere, names: &[
        "RELEASE_ALL_LOCKS",
    ] },
    Group { effect: Effect::LockState, volatility: Volatility::Server, families: Families::Both, spacing: Spacing::Anywhere, names: &[
        "IS_FREE_LOCK", "IS_USED_LOCK",
    ] },
    Group { effect: Effect::Sequence, volatility: Volatility::Server, families: Families::MariaDb, spacing: Spacing::Anywhere, names: &[
        "LASTVAL", "NEXTVAL", "SETVAL",
    ] },
    Group { effect: Effect::Delays, volatility: Volatility::Server, families: Families::Both, spacing: Spacing::Anywhere, names: &[
        "BENCHMARK", "SLEEP",
    ] },
    Group { effect: Effect::ServerState, volatility: Volatility::Server, families: Families::Both, spacing: Spacing::Anywhere, names: &[
        "LOAD_FILE", "UUID_SHORT",
    ] },
    Group { effect: Effect::ServerState, volatility: Volatility::Server, families: Families::MariaDb, spacing: Spacing::Anywhere, names: &[
        "BINLOG_GTID_POS",
    ] },
    Group { effect: Effect::Waits, volatility: Volatility::Server, families: Families::Both, spacing: Spacing::Anywhere, names: &[
        "MASTER_POS_WAIT",
    ] },
    Group { effect: Effect::Waits, volatility: Volatility::Server, families: Families::MariaDb, spacing: Spacing::Anywhere, names: &[
        "MASTER_GTID_WAIT", "WSREP_LAST_SEEN_GTID", "WSREP_LAST_WRITTEN_GTID", "WSREP_SYNC_WAIT_UPTO_GTID",
    ] },
    Group { effect: Effect::Waits, volatility: Volatility::Server, families: Families::MySql, spacing: Spacing::Anywhere, names: &[
        "SOURCE_POS_WAIT", "WAIT_FOR_EXECUTED_GTID_SET",
    ] },
    Group { effect: Effect::Waits, volatility: Volatility::Server, families: Families::Both, spacing: Spacing::Anywhere, names: &[
        "WAIT_UNTIL_SQL_THREAD_AFTER_GTIDS",
    ] },
];
