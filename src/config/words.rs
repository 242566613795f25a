//! The settings that are one of a few words.

use std::fmt;

use serde::{Serialize, Serializer};

/// Enums written as words. Each gets `as_str`, `ALL`, `Serialize` and a reader that names the nearest right word.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl $name {
            /// All words the key takes.
            pub const ALL: &'static [(&'static str, $name)] = &[$(($word, $name::$variant)),*];

            /// The word in the file.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(self.as_str())
            }
        }

        impl super::read::Word for $name {
            const ALL: &'static [(&'static str, $name)] = $name::ALL;
        }
    )*};
}

words! {
    /// TLS towards clients.
    ClientTlsMode {
        /// TLS is not offered.
        Disabled = "disabled",
        /// Offered; clients without it are let in.
        Preferred = "preferred",
        /// Clients without it are refused.
        Required = "required",
    }
    /// TLS towards a server.
    ServerTlsMode {
        /// Never.
        Disabled = "disabled",
        /// When the server offers it; its certificate is not checked.
        Preferred = "preferred",
        /// Always; the certificate is not checked.
        Required = "required",
        /// Always; the certificate must be signed by `ca`.
        VerifyCa = "verify_ca",
        /// Always; signed by `ca` and made out to the host of `address`.
        VerifyIdentity = "verify_identity",
    }
    /// How the connections to a server are compressed.
    ServerCompression {
        /// Not at all.
        Off = "off",
        /// With zlib, when the server offers it.
        Zlib = "zlib",
        /// With zstd, when the server offers it (MySQL).
        Zstd = "zstd",
    }
    /// The PROXY header sent to a server.
    ProxyProtocol {
        /// None.
        Off = "off",
        /// Version 1, a line of text.
        V1 = "v1",
        /// Version 2, binary.
        V2 = "v2",
    }
    /// What a server may become.
    ServerRole {
        /// One of the master-master peers.
        Master = "master",
        /// Only ever a replica.
        Replica = "replica",
    }
    /// Who starts a failover.
    FailoverMode {
        /// Sluice itself.
        Auto = "auto",
        /// Sluice diagnoses; an operator commands.
        Manual = "manual",
        /// Not even by command.
        Off = "off",
    }
    /// How many known transactions a promotion may lose.
    MaxLost {
        /// Any number; the missing ones are named.
        Any = "any",
        /// None: such a promotion is refused.
        None = "0",
    }
    /// How reads are spread.
    ReadBalance {
        /// One after the other.
        RoundRobin = "round_robin",
        /// In proportion to `weight`.
        Weighted = "weighted",
        /// To the server with the fewest statements running.
        LeastConnections = "least_connections",
        /// To the server with the lowest latency.
        Fastest = "fastest",
    }
    /// What a read is promised to see.
    Consistency {
        /// Whatever the replica has.
        None = "none",
        /// All that this session wrote.
        Session = "session",
        /// All that any session of this proxy wrote.
        Global = "global",
    }
    /// Whether the master serves reads.
    ReadFromMaster {
        /// Never; without a replica, reads fail.
        Never = "never",
        /// When no replica can.
        Fallback = "fallback",
        /// As one of the servers that serve reads.
        Always = "always",
    }
    /// Which reads may be cached.
    CacheDefault {
        /// Those that a rule or a hint names.
        OptIn = "opt_in",
        /// All that are cacheable.
        All = "all",
    }
    /// What voids cached rows.
    Invalidate {
        /// Writes through this proxy.
        Proxy = "proxy",
        /// Row events of the master's binlog.
        Binlog = "binlog",
    }
    /// Who may log in.
    AuthSource {
        /// Whoever may log in at the servers.
        Servers = "servers",
        /// The `[[user]]` entries, nobody else.
        File = "file",
    }
}
