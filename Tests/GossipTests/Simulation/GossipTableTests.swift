import Testing

@testable import Gossip

/// Prints the tables of `docs/gossip.md` for the sizes in `DUNLIN_GOSSIP_TABLE`, like 3,10,100.
@Suite("The figures of gossip", .ownThread, .enabled(if: Seeds.text("DUNLIN_GOSSIP_TABLE") != nil))
struct GossipTableTests {
    private static let sizes = (Seeds.text("DUNLIN_GOSSIP_TABLE") ?? "").split(separator: ",").compactMap { Int($0) }

    @Test("Detection, false deaths, and how changes spread")
    func table() {
        let tables = Self.sizes.flatMap { size in
            [true, false].map { GossipTable(size: size, usesLifeguard: $0) }
        }
        #expect(!tables.isEmpty, "DUNLIN_GOSSIP_TABLE takes sizes, like 3,10,100,1000")
        print(GossipTable.detectionHead)
        for table in tables { print(table.detectionRow()) }
        print("\n" + GossipTable.falseDeathsHead)
        for table in tables { print(table.falseDeathsRow()) }
        print("\n" + GossipTable.changesHead)
        for table in tables { print(table.changesRow()) }
    }
}
