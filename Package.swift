// swift-tools-version: 6.2
import PackageDescription

/// One set of settings for every target, so that a rule holds everywhere or nowhere.
let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    // https://github.com/swiftlang/swift-evolution/blob/main/proposals/0335-existential-any.md
    .enableUpcomingFeature("ExistentialAny"),
    // https://github.com/swiftlang/swift-evolution/blob/main/proposals/0444-member-import-visibility.md
    .enableUpcomingFeature("MemberImportVisibility"),
    // https://github.com/swiftlang/swift-evolution/blob/main/proposals/0409-access-level-on-imports.md
    .enableUpcomingFeature("InternalImportsByDefault"),
    // https://github.com/swiftlang/swift-evolution/blob/main/proposals/0461-async-function-isolation.md
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    // https://github.com/swiftlang/swift-evolution/blob/main/proposals/0470-isolated-conformances.md
    .enableUpcomingFeature("InferIsolatedConformances"),
    // https://github.com/swiftlang/swift-evolution/blob/main/proposals/0481-weak-let.md
    .enableUpcomingFeature("ImmutableWeakCaptures"),
]

let nioCore: Target.Dependency = .product(name: "NIOCore", package: "swift-nio")
let nioPosix: Target.Dependency = .product(name: "NIOPosix", package: "swift-nio")
let nioEmbedded: Target.Dependency = .product(name: "NIOEmbedded", package: "swift-nio")
let nioTLS: Target.Dependency = .product(name: "NIOTLS", package: "swift-nio")
let nioSSL: Target.Dependency = .product(name: "NIOSSL", package: "swift-nio-ssl")
let nioHTTP1: Target.Dependency = .product(name: "NIOHTTP1", package: "swift-nio")
let nioWebSocket: Target.Dependency = .product(name: "NIOWebSocket", package: "swift-nio")
let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")
let cryptoExtras: Target.Dependency = .product(name: "CryptoExtras", package: "swift-crypto")
let x509: Target.Dependency = .product(name: "X509", package: "swift-certificates")
let swiftASN1: Target.Dependency = .product(name: "SwiftASN1", package: "swift-asn1")
let jwtKit: Target.Dependency = .product(name: "JWTKit", package: "jwt-kit")
let grdb: Target.Dependency = .product(name: "GRDB", package: "GRDB.swift")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")

let package = Package(
    name: "dunlin",
    platforms: [.macOS(.v15)],
    products: [
        .library(name: "LocalBroker", targets: ["LocalBroker"]),
        .executable(name: "node", targets: ["node"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-certificates", from: "1.19.0"),
        .package(url: "https://github.com/apple/swift-asn1", from: "1.7.0"),
        .package(url: "https://github.com/vapor/jwt-kit", from: "5.7.1"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: [
        .target(name: "Protocol", dependencies: [nioCore], swiftSettings: settings),
        .target(
            name: "LocalBroker",
            dependencies: [
                "Protocol", nioCore, nioPosix, nioTLS, nioSSL, x509, swiftASN1, crypto, cryptoExtras, jwtKit, grdb,
                logging,
            ],
            swiftSettings: settings
        ),
        .target(name: "Gossip", dependencies: [nioCore, nioPosix, crypto, logging], swiftSettings: settings),
        .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"]), .brew(["zstd"])]),
        .target(
            name: "Cluster",
            dependencies: ["LocalBroker", "Protocol", "Gossip", "CZstd", nioCore, nioPosix, nioSSL, logging],
            swiftSettings: settings
        ),
        .executableTarget(
            name: "node",
            dependencies: [
                "LocalBroker", "Cluster", "Gossip", nioCore, nioPosix, logging,
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
                .product(name: "Yams", package: "Yams"),
            ],
            swiftSettings: settings
        ),
        .testTarget(name: "ProtocolTests", dependencies: ["Protocol", nioCore], swiftSettings: settings),
        .testTarget(
            name: "LocalBrokerTests",
            dependencies: [
                "LocalBroker", "Protocol", nioCore, nioPosix, nioEmbedded, nioSSL, nioHTTP1, nioWebSocket, x509,
                swiftASN1,
                crypto, jwtKit, grdb, logging,
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "GossipTests",
            dependencies: ["Gossip", nioCore, nioPosix, logging],
            resources: [.copy("Fixtures/golden.json")],
            swiftSettings: settings
        ),
        .testTarget(
            name: "ClusterTests",
            dependencies: [
                "Cluster", "LocalBroker", "Protocol", "Gossip", nioCore, nioPosix, nioEmbedded, nioSSL, x509, swiftASN1,
                crypto,
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "NodeTests",
            dependencies: [
                "node", "LocalBroker", "Cluster", "Gossip", nioCore, nioPosix, nioEmbedded,
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: settings
        ),
    ]
)
